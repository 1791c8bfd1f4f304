-- What is remembered. Moments are nanoseconds since 1970, truth is 0 or 1, lists are JSON.
-- Columns avoid the reserved words of both databases (`user`, `grant`).

-- One row: the one order of revocations.
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    rev INTEGER NOT NULL
) STRICT;
INSERT INTO meta (one, rev) VALUES (1, 0);

CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    kid TEXT PRIMARY KEY,
    usage INTEGER NOT NULL,
    algorithm TEXT NOT NULL,
    state INTEGER NOT NULL,
    sealed TEXT NOT NULL,
    made INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    login TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    mail TEXT,
    roles TEXT NOT NULL,
    groups TEXT NOT NULL,
    tenant TEXT,
    attributes TEXT NOT NULL,
    disabled INTEGER,
    made INTEGER NOT NULL
) STRICT;

CREATE TABLE passwords (
    user_id TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    hash TEXT NOT NULL,
    one_off INTEGER NOT NULL
) STRICT;

CREATE TABLE totp (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL UNIQUE REFERENCES users (id) ON DELETE CASCADE,
    sealed TEXT NOT NULL,
    last_used INTEGER,
    failures INTEGER NOT NULL,
    confirmed INTEGER NOT NULL,
    made INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    cookie BLOB NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    pwd INTEGER,
    otp INTEGER,
    hwk INTEGER,
    made INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    ended INTEGER
) STRICT;
CREATE INDEX sessions_of_user ON sessions (user_id, made);
CREATE INDEX sessions_expiring ON sessions (expires);

CREATE TABLE known_devices (
    device TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires INTEGER NOT NULL,
    PRIMARY KEY (user_id, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX known_devices_expiring ON known_devices (expires);

CREATE TABLE clients (
    id TEXT PRIMARY KEY,
    registration TEXT NOT NULL,
    disabled INTEGER,
    made INTEGER NOT NULL
) STRICT;

-- A client of the configuration file has no row in clients, so client_id refers to none.
CREATE TABLE grants (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    audience TEXT,
    made INTEGER NOT NULL,
    ended INTEGER
) STRICT;
CREATE INDEX grants_of_user ON grants (user_id, made);
CREATE INDEX grants_of_session ON grants (session_id);
CREATE INDEX grants_ended ON grants (ended) WHERE ended IS NOT NULL;
CREATE INDEX grants_of_client ON grants (client_id) WHERE ended IS NULL;

CREATE TABLE consents (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    scopes TEXT NOT NULL,
    given INTEGER NOT NULL,
    PRIMARY KEY (user_id, client_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE used_ids (
    kind INTEGER NOT NULL,
    mark BLOB NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (kind, mark)
) STRICT, WITHOUT ROWID;
CREATE INDEX used_ids_expiring ON used_ids (expires);

CREATE TABLE revocations (
    seq INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    mark BLOB NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX revocations_expiring ON revocations (expires);
