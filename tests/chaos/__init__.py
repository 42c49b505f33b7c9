"""The chaos run: thousands of requests, everything that can go wrong, and a model of what is allowed that judges every answer."""
