-- The journal: requests are the truth, spans are an index that can be dropped and rebuilt from them.
-- One writer (the relay's writer thread), any number of readers. Times are nanoseconds since the epoch.

CREATE TABLE IF NOT EXISTS meta (
    key   TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;
-- epoch           changes when readers must start over (index rebuilt, sessions purged)
-- revision        the highest revision ever given; never reused
-- indexed         the last request whose spans are in the index
-- schema_version  of this file, see migrations in opening.py
-- index_version   of index.sql
-- exporter, proof, received, keeping: JSON documents that the relay keeps for readers

CREATE TABLE IF NOT EXISTS routes (      -- what a sender said about where its spans go
    id         INTEGER PRIMARY KEY,
    headers    TEXT NOT NULL,            -- JSON object of its x-mlflow-* headers, names in lower case
    credential TEXT NOT NULL DEFAULT ''  -- name of its Authorization value in the credentials file
);
CREATE UNIQUE INDEX IF NOT EXISTS routes_by_content ON routes (headers, credential);

CREATE TABLE IF NOT EXISTS requests (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    received_ns      INTEGER NOT NULL,
    state            INTEGER NOT NULL,   -- journal.marks.RequestState
    route            INTEGER NOT NULL REFERENCES routes (id),
    span_count       INTEGER NOT NULL,
    content_type     TEXT NOT NULL,
    content_encoding TEXT NOT NULL,
    body             BLOB NOT NULL,      -- the original bytes
    destination      TEXT NOT NULL DEFAULT '', -- where it went, once it did
    checksum         INTEGER             -- CRC-32 of the body; null when a relay stored it that made none
);
CREATE INDEX IF NOT EXISTS requests_waiting ON requests (route, id) WHERE state IN (1, 3);
CREATE INDEX IF NOT EXISTS requests_sent ON requests (destination, id) WHERE state = 2;
CREATE INDEX IF NOT EXISTS requests_parted ON requests (id) WHERE state = 3;

CREATE TABLE IF NOT EXISTS marks (       -- how far a span got, kept apart from the index and surviving it
    destination TEXT    NOT NULL,
    trace_id    BLOB    NOT NULL,
    span_id     BLOB    NOT NULL,
    end_ns      INTEGER NOT NULL,        -- of the version of the span that this mark is about
    state       INTEGER NOT NULL,        -- model.span.Delivery
    at_ns       INTEGER NOT NULL,
    reason      TEXT,
    lost        INTEGER NOT NULL DEFAULT 0,  -- how often it was accepted and then not there
    PRIMARY KEY (trace_id, span_id, destination)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS read_back (   -- what MLflow says of a whole trace
    trace_id    BLOB    NOT NULL,
    destination TEXT    NOT NULL,
    at_ns       INTEGER NOT NULL,
    document    TEXT    NOT NULL,        -- JSON: state, spans, input_tokens, output_tokens, cost, duration_s
    PRIMARY KEY (trace_id, destination)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS answers (     -- what became of the wishes on the desk
    wish     TEXT PRIMARY KEY,
    at_ns    INTEGER NOT NULL,
    state    TEXT NOT NULL,              -- working, done or failed
    document TEXT NOT NULL               -- JSON: progress, then the result
) WITHOUT ROWID;
