"""One suite for both engines: what the storage promises, on SQLite and on a real PostgreSQL."""
