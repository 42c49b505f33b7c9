"""What is known about each provider, as data: one record per provider, no input or output."""
