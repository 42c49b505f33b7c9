"""What tests share: a running gateway, and the simulator behind it."""
