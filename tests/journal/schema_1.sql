-- The journal: requests are the truth, spans are an index that can be dropped and rebuilt from them.
-- One writer (the relay's writer thread), any number of readers. Times are nanoseconds since the epoch.

CREATE TABLE IF NOT EXISTS meta (
    key   TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;
-- epoch     changes when readers must start over (index rebuilt, sessions purged)
-- revision  the highest revision ever given; never reused
-- indexed   the last request whose spans are in the index

CREATE TABLE IF NOT EXISTS routes (      -- what a sender said about where its spans go
    id         INTEGER PRIMARY KEY,
    headers    TEXT NOT NULL,            -- JSON object of its x-mlflow-* headers, names in lower case
    credential TEXT NOT NULL DEFAULT ''  -- name of its Authorization value in the credentials file
);
CREATE UNIQUE INDEX IF NOT EXISTS routes_by_content ON routes (headers, credential);

CREATE TABLE IF NOT EXISTS requests (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    received_ns      INTEGER NOT NULL,
    state            INTEGER NOT NULL,   -- 0 arrived without a destination, 1 to be sent, 2 done
    route            INTEGER NOT NULL REFERENCES routes (id),
    span_count       INTEGER NOT NULL,
    content_type     TEXT NOT NULL,
    content_encoding TEXT NOT NULL,
    body             BLOB NOT NULL       -- the original bytes
);
CREATE INDEX IF NOT EXISTS requests_to_send ON requests (route, id) WHERE state = 1;

CREATE TABLE IF NOT EXISTS marks (       -- how far a span got, kept apart from the index and surviving it
    destination TEXT    NOT NULL,
    trace_id    BLOB    NOT NULL,
    span_id     BLOB    NOT NULL,
    end_ns      INTEGER NOT NULL,        -- of the version of the span that this mark is about
    state       INTEGER NOT NULL,        -- model.span.Delivery
    at_ns       INTEGER NOT NULL,
    reason      TEXT,
    PRIMARY KEY (trace_id, span_id, destination)
) WITHOUT ROWID;
-- The index: everything here is made from requests and marks, and may be dropped at any time.

CREATE TABLE IF NOT EXISTS spans (
    revision  INTEGER NOT NULL,
    trace_id  BLOB    NOT NULL,
    span_id   BLOB    NOT NULL,
    parent_id BLOB    NOT NULL,          -- empty for a root
    name      TEXT    NOT NULL,
    kind      TEXT    NOT NULL,
    role      TEXT    NOT NULL,
    status    INTEGER NOT NULL,
    start_ns  INTEGER NOT NULL,
    end_ns    INTEGER NOT NULL,          -- 0 while it runs
    delivery  INTEGER NOT NULL,
    request   INTEGER NOT NULL,
    position  INTEGER NOT NULL,          -- its place in the request
    facts     BLOB    NOT NULL           -- model.span.Facts that differ from their defaults, msgpack
);
CREATE UNIQUE INDEX IF NOT EXISTS spans_by_id ON spans (trace_id, span_id);
CREATE UNIQUE INDEX IF NOT EXISTS spans_by_revision ON spans (revision);

CREATE TABLE IF NOT EXISTS traces (
    trace_id    BLOB PRIMARY KEY,
    session     TEXT,                    -- of its earliest span that names one: the user's, not a subagent's
    first_ns    INTEGER NOT NULL,        -- start of that span
    received_ns INTEGER NOT NULL         -- arrival of its newest request
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS traces_by_arrival ON traces (received_ns);

CREATE TABLE IF NOT EXISTS trace_sessions (
    session  TEXT NOT NULL,
    trace_id BLOB NOT NULL,
    PRIMARY KEY (session, trace_id)
) WITHOUT ROWID;
