"""HTTP towards the client."""
