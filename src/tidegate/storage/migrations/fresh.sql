CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL, 
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

CREATE TABLE tenants (
    number INTEGER NOT NULL, 
    organization TEXT NOT NULL, 
    project TEXT NOT NULL, 
    PRIMARY KEY (number), 
    CONSTRAINT tenants_names UNIQUE (organization, project)
);

CREATE TABLE stored (
    tenant BIGINT NOT NULL, 
    "key" TEXT NOT NULL, 
    bytes BIGINT NOT NULL, 
    runs BIGINT NOT NULL, 
    PRIMARY KEY (tenant, "key")
);

CREATE TABLE processes (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
    name TEXT NOT NULL, 
    lease_until DOUBLE NOT NULL, 
    batch BIGINT NOT NULL
);

CREATE TABLE counters (
    name TEXT NOT NULL, 
    next BIGINT NOT NULL, 
    PRIMARY KEY (name)
);

INSERT INTO counters (name, next) VALUES ('run', 1);

CREATE TABLE data_keys (
    number INTEGER NOT NULL, 
    master TEXT NOT NULL, 
    wrapped BLOB NOT NULL, 
    created_at DOUBLE NOT NULL, 
    PRIMARY KEY (number)
);

CREATE TABLE runs (
    number INTEGER NOT NULL, 
    id TEXT NOT NULL, 
    tenant BIGINT NOT NULL, 
    "key" TEXT NOT NULL, 
    dialect TEXT NOT NULL, 
    model TEXT NOT NULL, 
    deployment TEXT NOT NULL, 
    status TEXT NOT NULL, 
    background SMALLINT NOT NULL, 
    stream SMALLINT NOT NULL, 
    created_at DOUBLE NOT NULL, 
    completed_at DOUBLE, 
    expires_at DOUBLE, 
    owner BIGINT NOT NULL, 
    cancel_requested SMALLINT NOT NULL, 
    previous BIGINT, 
    previous_id TEXT NOT NULL, 
    conversation BIGINT, 
    conversation_id TEXT NOT NULL, 
    error_code TEXT NOT NULL, 
    last_sequence BIGINT, 
    bytes BIGINT NOT NULL, 
    sealed BIGINT NOT NULL, 
    usage BLOB NOT NULL, 
    request BLOB NOT NULL, 
    answer BLOB NOT NULL, 
    error BLOB NOT NULL, 
    PRIMARY KEY (number)
);

CREATE UNIQUE INDEX runs_id ON runs (id);

CREATE INDEX runs_live ON runs (owner, cancel_requested) WHERE completed_at IS NULL;

CREATE INDEX runs_previous ON runs (previous) WHERE previous IS NOT NULL;

CREATE INDEX runs_expiry ON runs (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE items (
    number INTEGER NOT NULL, 
    run BIGINT NOT NULL, 
    tenant BIGINT NOT NULL, 
    position INTEGER NOT NULL, 
    output SMALLINT NOT NULL, 
    id TEXT NOT NULL, 
    sealed BIGINT NOT NULL, 
    content BLOB NOT NULL, 
    PRIMARY KEY (number)
);

CREATE UNIQUE INDEX items_run ON items (run, position);

CREATE INDEX items_id ON items (tenant, id);

CREATE TABLE segments (
    number INTEGER NOT NULL, 
    run BIGINT NOT NULL, 
    first BIGINT NOT NULL, 
    last BIGINT NOT NULL, 
    sealed BIGINT NOT NULL, 
    frames BLOB NOT NULL, 
    PRIMARY KEY (number)
);

CREATE INDEX segments_run ON segments (run, last);

CREATE TABLE conversations (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
    id TEXT NOT NULL, 
    tenant BIGINT NOT NULL, 
    "key" TEXT NOT NULL, 
    created_at DOUBLE NOT NULL, 
    next_position BIGINT NOT NULL, 
    bytes BIGINT NOT NULL, 
    sealed BIGINT NOT NULL, 
    metadata BLOB NOT NULL
);

CREATE UNIQUE INDEX conversations_id ON conversations (id);

CREATE TABLE conversation_items (
    number INTEGER NOT NULL, 
    conversation BIGINT NOT NULL, 
    tenant BIGINT NOT NULL, 
    position BIGINT NOT NULL, 
    id TEXT NOT NULL, 
    sealed BIGINT NOT NULL, 
    content BLOB NOT NULL, 
    PRIMARY KEY (number)
);

CREATE UNIQUE INDEX conversation_items_place ON conversation_items (conversation, position);

CREATE INDEX conversation_items_id ON conversation_items (tenant, id);

CREATE TABLE idempotency (
    number INTEGER NOT NULL, 
    tenant BIGINT NOT NULL, 
    name TEXT NOT NULL, 
    digest BLOB NOT NULL, 
    run_id TEXT NOT NULL, 
    owner BIGINT NOT NULL, 
    expires_at DOUBLE NOT NULL, 
    status INTEGER, 
    sealed BIGINT NOT NULL, 
    answer BLOB NOT NULL, 
    PRIMARY KEY (number)
);

CREATE UNIQUE INDEX idempotency_name ON idempotency (tenant, name);

CREATE INDEX idempotency_run ON idempotency (run_id);

CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE doomed (
    kind TEXT NOT NULL, 
    number BIGINT NOT NULL, 
    owner BIGINT, 
    PRIMARY KEY (kind, number)
);

INSERT INTO alembic_version (version_num) VALUES ('0001') RETURNING version_num;

-- Running upgrade 0001 -> 0002

CREATE TABLE ledger (
    number INTEGER NOT NULL, 
    request_id TEXT NOT NULL, 
    tenant BIGINT NOT NULL, 
    "key" TEXT NOT NULL, 
    admitted_at DOUBLE NOT NULL, 
    settled_at DOUBLE, 
    entry BLOB NOT NULL, 
    PRIMARY KEY (number)
);

CREATE UNIQUE INDEX ledger_request ON ledger (request_id);

UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001';

-- Running upgrade 0002 -> 0003

INSERT INTO counters (name, next) VALUES ('access', 1);

CREATE TABLE organizations (
    number INTEGER NOT NULL, 
    name TEXT NOT NULL, 
    settings BLOB NOT NULL, 
    created_at DOUBLE NOT NULL, 
    created_by TEXT NOT NULL, 
    deleted_at DOUBLE, 
    PRIMARY KEY (number), 
    CONSTRAINT organizations_name UNIQUE (name)
);

CREATE TABLE projects (
    number INTEGER NOT NULL, 
    organization TEXT NOT NULL, 
    name TEXT NOT NULL, 
    settings BLOB NOT NULL, 
    created_at DOUBLE NOT NULL, 
    created_by TEXT NOT NULL, 
    deleted_at DOUBLE, 
    PRIMARY KEY (number), 
    CONSTRAINT projects_name UNIQUE (organization, name)
);

CREATE TABLE virtual_keys (
    number INTEGER NOT NULL, 
    id TEXT NOT NULL, 
    organization TEXT NOT NULL, 
    project TEXT NOT NULL, 
    name TEXT NOT NULL, 
    settings BLOB NOT NULL, 
    created_at DOUBLE NOT NULL, 
    created_by TEXT NOT NULL, 
    expires_at DOUBLE, 
    revoked_at DOUBLE, 
    changed BIGINT NOT NULL, 
    PRIMARY KEY (number)
);

CREATE UNIQUE INDEX virtual_keys_id ON virtual_keys (id);

CREATE INDEX virtual_keys_changed ON virtual_keys (changed);

CREATE INDEX virtual_keys_project ON virtual_keys (organization, project, name);

CREATE INDEX virtual_keys_name ON virtual_keys (name);

CREATE TABLE admins (
    number INTEGER NOT NULL, 
    id TEXT NOT NULL, 
    name TEXT NOT NULL, 
    role TEXT NOT NULL, 
    created_at DOUBLE NOT NULL, 
    created_by TEXT NOT NULL, 
    expires_at DOUBLE, 
    revoked_at DOUBLE, 
    PRIMARY KEY (number)
);

CREATE UNIQUE INDEX admins_id ON admins (id);

CREATE TABLE key_texts (
    number INTEGER NOT NULL, 
    owner TEXT NOT NULL, 
    digest BLOB NOT NULL, 
    pepper TEXT NOT NULL, 
    last4 TEXT NOT NULL, 
    created_at DOUBLE NOT NULL, 
    expires_at DOUBLE, 
    PRIMARY KEY (number)
);

CREATE UNIQUE INDEX key_texts_digest ON key_texts (digest);

CREATE INDEX key_texts_owner ON key_texts (owner);

CREATE TABLE audit (
    number INTEGER NOT NULL, 
    at DOUBLE NOT NULL, 
    actor TEXT NOT NULL, 
    actor_name TEXT NOT NULL, 
    action TEXT NOT NULL, 
    target TEXT NOT NULL, 
    "before" TEXT NOT NULL, 
    "after" TEXT NOT NULL, 
    request_id TEXT NOT NULL, 
    PRIMARY KEY (number)
);

CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;

CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;

UPDATE alembic_version SET version_num='0003' WHERE alembic_version.version_num = '0002';

-- Running upgrade 0003 -> 0004

DROP INDEX ledger_request;

DROP TABLE ledger;

CREATE TABLE ledger (
    number INTEGER NOT NULL, 
    tenant BIGINT NOT NULL, 
    "key" TEXT NOT NULL, 
    key_id TEXT NOT NULL, 
    end_user TEXT NOT NULL, 
    model TEXT NOT NULL, 
    provider TEXT NOT NULL, 
    deployment TEXT NOT NULL, 
    endpoint TEXT NOT NULL, 
    stream SMALLINT NOT NULL, 
    status INTEGER NOT NULL, 
    ending TEXT NOT NULL, 
    error TEXT NOT NULL, 
    attempts INTEGER NOT NULL, 
    response_id TEXT NOT NULL, 
    admitted_at DOUBLE NOT NULL, 
    settled_at DOUBLE, 
    duration_ms DOUBLE NOT NULL, 
    first_event_ms DOUBLE, 
    input_tokens BIGINT NOT NULL, 
    cached_tokens BIGINT NOT NULL, 
    cache_write_tokens BIGINT NOT NULL, 
    output_tokens BIGINT NOT NULL, 
    reasoning_tokens BIGINT NOT NULL, 
    audio_seconds DOUBLE NOT NULL, 
    characters BIGINT NOT NULL, 
    estimated SMALLINT NOT NULL, 
    cost_nano BIGINT, 
    detail BLOB NOT NULL, 
    PRIMARY KEY (number)
);

CREATE INDEX ledger_open ON ledger (number) WHERE settled_at IS NULL;

CREATE INDEX ledger_time ON ledger (admitted_at, number);

CREATE TABLE usage_hours (
    hour BIGINT NOT NULL, 
    tenant BIGINT NOT NULL, 
    key_id TEXT NOT NULL, 
    end_user TEXT NOT NULL, 
    model TEXT NOT NULL, 
    deployment TEXT NOT NULL, 
    endpoint TEXT NOT NULL, 
    ending TEXT NOT NULL, 
    "key" TEXT NOT NULL, 
    provider TEXT NOT NULL, 
    requests BIGINT NOT NULL, 
    attempts BIGINT NOT NULL, 
    estimated BIGINT NOT NULL, 
    unpriced BIGINT NOT NULL, 
    input_tokens BIGINT NOT NULL, 
    cached_tokens BIGINT NOT NULL, 
    cache_write_tokens BIGINT NOT NULL, 
    output_tokens BIGINT NOT NULL, 
    reasoning_tokens BIGINT NOT NULL, 
    audio_seconds DOUBLE NOT NULL, 
    characters BIGINT NOT NULL, 
    duration_ms DOUBLE NOT NULL, 
    cost_nano BIGINT NOT NULL, 
    PRIMARY KEY (hour, tenant, key_id, end_user, model, deployment, endpoint, ending)
);

CREATE INDEX idempotency_open ON idempotency (owner) WHERE status IS NULL;

UPDATE alembic_version SET version_num='0004' WHERE alembic_version.version_num = '0003';

-- Running upgrade 0004 -> 0005

CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE number = NEW.number) BEGIN SELECT RAISE(ABORT, 'the audit log only grows'); END;

UPDATE alembic_version SET version_num='0005' WHERE alembic_version.version_num = '0004';

-- Running upgrade 0005 -> 0006

ALTER TABLE idempotency ADD COLUMN "key" TEXT DEFAULT '' NOT NULL;

ALTER TABLE idempotency ADD COLUMN bytes BIGINT DEFAULT 0 NOT NULL;

UPDATE alembic_version SET version_num='0006' WHERE alembic_version.version_num = '0005';

-- Running upgrade 0006 -> 0007

INSERT INTO stored (tenant, key, bytes, runs) SELECT DISTINCT tenant, key, 0, 0 FROM conversations WHERE true ON CONFLICT (tenant, key) DO NOTHING;

UPDATE stored SET bytes = bytes + coalesce((SELECT sum((
        length(metadata) - CASE WHEN sealed <> 0 AND length(metadata) > 0 THEN 28 ELSE 0 END + coalesce((
            SELECT sum(length(content) - CASE WHEN sealed <> 0 AND length(content) > 0 THEN 28 ELSE 0 END) FROM conversation_items WHERE conversation = conversations.number
        ), 0)
    ) - conversations.bytes) FROM conversations WHERE conversations.tenant = stored.tenant AND conversations.key = stored.key), 0);

UPDATE conversations SET bytes = (
        length(metadata) - CASE WHEN sealed <> 0 AND length(metadata) > 0 THEN 28 ELSE 0 END + coalesce((
            SELECT sum(length(content) - CASE WHEN sealed <> 0 AND length(content) > 0 THEN 28 ELSE 0 END) FROM conversation_items WHERE conversation = conversations.number
        ), 0)
    );

UPDATE alembic_version SET version_num='0007' WHERE alembic_version.version_num = '0006';

