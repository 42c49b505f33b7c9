"""Virtual keys, principals and the usage ledger."""
