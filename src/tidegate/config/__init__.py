"""Configuration: the shape of `tidegate.toml`, how it is read, and where each value came from."""
