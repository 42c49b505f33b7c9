"""The tables, as SQLAlchemy describes them: the source of migrations and of the check that they arrive here.

Not loaded at run time (see `statement`). Numbers are given by the storage or the database and never leave the house;
clients know public ids. Flags are small integers, times are seconds since 1970, and everything that a client or
provider wrote is bytes, which are sealed when `sealed` names a data key.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

__all__ = ["metadata"]

metadata = MetaData()

# An integer that SQLite makes the row's own key: rows are appended, never inserted in between.
_Key = BigInteger().with_variant(Integer(), "sqlite")


def _key(name: str) -> "Column[int]":
    return Column(name, _Key, primary_key=True)


tenants = Table(
    "tenants",
    metadata,
    _key("number"),
    Column("organization", Text, nullable=False),
    Column("project", Text, nullable=False),
    UniqueConstraint("organization", "project", name="tenants_names"),
)

# What each key of a tenant has in store: the sum of `bytes` over its ended runs and its conversations.
stored = Table(
    "stored",
    metadata,
    Column("tenant", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("runs", BigInteger, nullable=False),
)

# One row for each gateway process. `batch` is the last batch of writes that it committed: written in the same
# transaction, it tells after a broken connection whether the batch arrived. A process whose row is gone is dead to all
# others, and learns it with its next batch.
processes = Table(
    "processes",
    metadata,
    _key("number"),
    Column("name", Text, nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("batch", BigInteger, nullable=False),
    sqlite_autoincrement=True,  # the number of a dead process must not come back
)

# Blocks of run numbers that processes have taken.
counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("next", BigInteger, nullable=False),
)

data_keys = Table(
    "data_keys",
    metadata,
    _key("number"),
    Column("master", Text, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("number", _Key, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("tenant", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("background", SmallInteger, nullable=False),
    Column("stream", SmallInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("completed_at", Double),  # null while the run is live
    Column("expires_at", Double),
    Column("owner", BigInteger, nullable=False),
    Column("cancel_requested", SmallInteger, nullable=False),
    Column("previous", BigInteger),
    Column("previous_id", Text, nullable=False),
    Column("conversation", BigInteger),
    Column("conversation_id", Text, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("last_sequence", BigInteger),
    Column("bytes", BigInteger, nullable=False),
    Column("sealed", BigInteger, nullable=False),
    Column("usage", LargeBinary, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("error", LargeBinary, nullable=False),
)
Index("runs_id", runs.c.id, unique=True)
_only_live = runs.c.completed_at.is_(None)
Index("runs_live", runs.c.owner, runs.c.cancel_requested, sqlite_where=_only_live, postgresql_where=_only_live)
_only_next = runs.c.previous.is_not(None)
Index("runs_previous", runs.c.previous, sqlite_where=_only_next, postgresql_where=_only_next)
_only_mortal = runs.c.expires_at.is_not(None)
Index("runs_expiry", runs.c.expires_at, sqlite_where=_only_mortal, postgresql_where=_only_mortal)

items = Table(
    "items",
    metadata,
    _key("number"),
    Column("run", BigInteger, nullable=False),
    Column("tenant", BigInteger, nullable=False),
    Column("position", Integer, nullable=False),
    Column("output", SmallInteger, nullable=False),
    Column("id", Text, nullable=False),
    Column("sealed", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
Index("items_run", items.c.run, items.c.position, unique=True)
Index("items_id", items.c.tenant, items.c.id)

# The journal. The key ascends with time, so that a flush of many runs touches few pages; the index serves replay.
segments = Table(
    "segments",
    metadata,
    _key("number"),
    Column("run", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("sealed", BigInteger, nullable=False),
    Column("frames", LargeBinary, nullable=False),
)
Index("segments_run", segments.c.run, segments.c.last)

conversations = Table(
    "conversations",
    metadata,
    _key("number"),
    Column("id", Text, nullable=False),
    Column("tenant", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("next_position", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sealed", BigInteger, nullable=False),
    Column("metadata", LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # items of a deleted one may still be there
)
Index("conversations_id", conversations.c.id, unique=True)

conversation_items = Table(
    "conversation_items",
    metadata,
    _key("number"),
    Column("conversation", BigInteger, nullable=False),
    Column("tenant", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("id", Text, nullable=False),
    Column("sealed", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
Index("conversation_items_place", conversation_items.c.conversation, conversation_items.c.position, unique=True)
Index("conversation_items_id", conversation_items.c.tenant, conversation_items.c.id)

idempotency = Table(
    "idempotency",
    metadata,
    _key("number"),
    Column("tenant", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("owner", BigInteger, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("status", Integer),
    Column("sealed", BigInteger, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("key", Text, nullable=False, server_default=text("''")),
    Column("bytes", BigInteger, nullable=False, server_default=text("0")),
)
Index("idempotency_name", idempotency.c.tenant, idempotency.c.name, unique=True)
Index("idempotency_run", idempotency.c.run_id)
Index("idempotency_expiry", idempotency.c.expires_at)
_only_unanswered = idempotency.c.status.is_(None)
Index("idempotency_open", idempotency.c.owner, sqlite_where=_only_unanswered, postgresql_where=_only_unanswered)

# What is deleted already, and whose rows are still to be removed in batches. `owner` is the process that may still
# write to a run; the mark stays until it has stopped.
doomed = Table(
    "doomed",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("owner", BigInteger),
)

# One row for each request. The number holds the process that admitted it, in front of a running one: rows of one process
# are appended, and nobody else has the same number, whatever ids clients give to their requests.
ledger = Table(
    "ledger",
    metadata,
    Column("number", _Key, primary_key=True, autoincrement=False),
    Column("tenant", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("end_user", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("stream", SmallInteger, nullable=False),
    Column("status", Integer, nullable=False),
    Column("ending", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("response_id", Text, nullable=False),
    Column("admitted_at", Double, nullable=False),
    Column("settled_at", Double),  # null while the request runs
    Column("duration_ms", Double, nullable=False),
    Column("first_event_ms", Double),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("audio_seconds", Double, nullable=False),
    Column("characters", BigInteger, nullable=False),
    Column("estimated", SmallInteger, nullable=False),
    Column("cost_nano", BigInteger),  # null where a price is unknown
    Column("detail", LargeBinary, nullable=False),
)
_only_open = ledger.c.settled_at.is_(None)
Index("ledger_open", ledger.c.number, sqlite_where=_only_open, postgresql_where=_only_open)
Index("ledger_time", ledger.c.admitted_at, ledger.c.number)

# Sums over the settled rows of the ledger, by the hour in which they were admitted. Derived: it can be made anew from the
# rows that are still there, and outlives them.
usage_hours = Table(
    "usage_hours",
    metadata,
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    Column("tenant", BigInteger, primary_key=True, autoincrement=False),
    Column("key_id", Text, primary_key=True),
    Column("end_user", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("deployment", Text, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("ending", Text, primary_key=True),
    Column("key", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("estimated", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("audio_seconds", Double, nullable=False),
    Column("characters", BigInteger, nullable=False),
    Column("duration_ms", Double, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
)

# -- access: who may use the gateway, and who may change that --------------------------------------------------------

organizations = Table(
    "organizations",
    metadata,
    _key("number"),
    Column("name", Text, nullable=False),
    Column("settings", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("deleted_at", Double),  # the name is not given away again: what its projects stored may still be there
    UniqueConstraint("name", name="organizations_name"),
)

projects = Table(
    "projects",
    metadata,
    _key("number"),
    Column("organization", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("settings", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("deleted_at", Double),
    UniqueConstraint("organization", "name", name="projects_name"),
)

# `changed` is the version (`counters`, 'access') in which the row was last changed. Rows stay for ever: usage names them.
virtual_keys = Table(
    "virtual_keys",
    metadata,
    _key("number"),
    Column("id", Text, nullable=False),
    Column("organization", Text, nullable=False),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("settings", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("changed", BigInteger, nullable=False),
)
Index("virtual_keys_id", virtual_keys.c.id, unique=True)
Index("virtual_keys_changed", virtual_keys.c.changed)
Index("virtual_keys_project", virtual_keys.c.organization, virtual_keys.c.project, virtual_keys.c.name)
Index("virtual_keys_name", virtual_keys.c.name)

admins = Table(
    "admins",
    metadata,
    _key("number"),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
)
Index("admins_id", admins.c.id, unique=True)

# The texts that open a virtual key or an admin key, as keyed digests. `pepper` says which secret they were made with.
key_texts = Table(
    "key_texts",
    metadata,
    _key("number"),
    Column("owner", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("pepper", Text, nullable=False),
    Column("last4", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
)
Index("key_texts_digest", key_texts.c.digest, unique=True)
Index("key_texts_owner", key_texts.c.owner)

# Only grows: triggers refuse to change or remove a row.
audit = Table(
    "audit",
    metadata,
    _key("number"),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("actor_name", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Column("request_id", Text, nullable=False),
)
