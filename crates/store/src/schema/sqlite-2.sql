-- Refresh families, device logins, API keys, logouts that wait, clients that register themselves.

-- A grant may outlive its session: which session it came from is a text; the one that it dies with,
-- if any, is a reference. (SQLite drops no constraint, so the table is made anew.)
CREATE TABLE grants_anew (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    dies_with TEXT REFERENCES sessions (id) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    audience TEXT,
    details TEXT NOT NULL,
    binding TEXT,
    pwd INTEGER,
    otp INTEGER,
    hwk INTEGER,
    counter INTEGER NOT NULL,
    moved INTEGER,
    graces INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    made INTEGER NOT NULL,
    ended INTEGER
) STRICT;
-- What there was had no refresh tokens and no ledger of its own: the session's is the nearest.
INSERT INTO grants_anew
    (id, user_id, client_id, session_id, dies_with, scopes, audience, details, binding,
     pwd, otp, hwk, counter, moved, graces, seen, expires, made, ended)
    SELECT g.id, g.user_id, g.client_id, g.session_id, g.session_id, g.scopes, g.audience, '', NULL,
           s.pwd, s.otp, s.hwk, 0, NULL, 0, g.made, s.expires, g.made, g.ended
    FROM grants AS g JOIN sessions AS s ON s.id = g.session_id;
DROP TABLE grants;
ALTER TABLE grants_anew RENAME TO grants;
CREATE INDEX grants_of_user ON grants (user_id, made);
CREATE INDEX grants_of_session ON grants (session_id);
-- Both for the end of a session and, where there is none, for those that expire by themselves.
CREATE INDEX grants_dying_with ON grants (dies_with, expires);
CREATE INDEX grants_ended ON grants (ended) WHERE ended IS NOT NULL;
CREATE INDEX grants_of_client ON grants (client_id) WHERE ended IS NULL;

-- The digest of a registration access token (RFC 7592), and who registered the client.
ALTER TABLE clients ADD COLUMN manage BLOB;
ALTER TABLE clients ADD COLUMN registered INTEGER NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX clients_managed ON clients (manage) WHERE manage IS NOT NULL;

-- What a client leaves goes with it, so that its next bearer inherits nothing.
CREATE INDEX consents_of_client ON consents (client_id);
CREATE INDEX consents_of_user ON consents (user_id, given);

CREATE TABLE device_logins (
    code BLOB PRIMARY KEY,
    user_code TEXT NOT NULL UNIQUE,
    client_id TEXT NOT NULL,
    scopes TEXT NOT NULL,
    audience TEXT,
    details TEXT NOT NULL,
    binding TEXT,
    ip TEXT NOT NULL,
    made INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    interval_s INTEGER NOT NULL,
    polled INTEGER,
    decision INTEGER NOT NULL,
    user_id TEXT REFERENCES users (id) ON DELETE CASCADE,
    session_id TEXT,
    pwd INTEGER,
    otp INTEGER,
    hwk INTEGER
) STRICT;
CREATE INDEX device_logins_expiring ON device_logins (expires);
CREATE INDEX device_logins_of_client ON device_logins (client_id, expires);
CREATE INDEX device_logins_of_address ON device_logins (ip, expires);
CREATE INDEX device_logins_of_user ON device_logins (user_id) WHERE user_id IS NOT NULL;

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    client_id TEXT NOT NULL,
    scopes TEXT NOT NULL,
    networks TEXT NOT NULL,
    made INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    revoked INTEGER,
    used INTEGER
) STRICT;
CREATE INDEX api_keys_of_client ON api_keys (client_id, made);
CREATE INDEX api_keys_expiring ON api_keys (expires);
CREATE INDEX api_keys_revoked ON api_keys (revoked) WHERE revoked IS NOT NULL;

-- Numbers never come twice: whoever tells of number 5 must not strike another that became 5.
CREATE TABLE logouts (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    client_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    tries INTEGER NOT NULL,
    due INTEGER NOT NULL,
    UNIQUE (session_id, client_id)
) STRICT;
CREATE INDEX logouts_due ON logouts (due, number);
CREATE INDEX logouts_of_client ON logouts (client_id);
