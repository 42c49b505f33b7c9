"""Which deployments answer a model name, and in what order. Pure."""
