"""What outlives a request: runs with their items and journal, conversations, idempotency records and the usage ledger.

One interface (`storage.Storage`) on SQLite and PostgreSQL. The modules by noun hold plain SQL that both engines read, as
generators that do no I/O; `sqlite` and `postgres` drive them; `writer` gathers writes into few transactions.
"""
