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
-- Empty once all is read back: counts and lists of the rest stay cheap however long the journal is.
CREATE INDEX IF NOT EXISTS spans_unproven ON spans (delivery, end_ns) WHERE delivery != 3;

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
