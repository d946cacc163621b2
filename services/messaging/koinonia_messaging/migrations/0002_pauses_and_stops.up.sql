-- Pauses stand beside the status, so that answers, counters and completion go on under them.

ALTER TABLE messages
    ADD COLUMN pause_version integer NOT NULL DEFAULT 0,
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN pause_reason text,  -- why it paused itself; null: a person wished it

    -- What the counters showed when the window began in which failures are counted.
    ADD COLUMN answers_seen integer NOT NULL DEFAULT 0,
    ADD COLUMN refusals_seen integer NOT NULL DEFAULT 0,
    ADD COLUMN receipts_seen integer NOT NULL DEFAULT 0,
    ADD COLUMN undelivered_seen integer NOT NULL DEFAULT 0,

    -- Of a cancelled one: what the audience was, and what delivery and billing have said since.
    ADD COLUMN stop_id uuid,  -- the stop of everything that cancelled it
    ADD COLUMN stop_total integer,
    ADD COLUMN stop_sent integer,
    ADD COLUMN stop_in_flight integer,
    ADD COLUMN credited_segments integer,
    ADD COLUMN credited_cents integer,
    ADD CONSTRAINT stop_confirmed CHECK ((stop_sent IS NULL) = (stop_in_flight IS NULL)),
    ADD CONSTRAINT stop_credited CHECK ((credited_segments IS NULL) = (credited_cents IS NULL)),
    ADD CONSTRAINT pause_explained CHECK (pause_reason IS NULL OR paused_at IS NOT NULL);
CREATE INDEX messages_stop ON messages (stop_id) WHERE stop_id IS NOT NULL;

-- How often a broadcast's texts have failed, by the carrier's code, since it was last resumed.
CREATE TABLE message_errors (
    message_id uuid NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    code text NOT NULL,
    church_id uuid NOT NULL,
    failures integer NOT NULL CHECK (failures > 0),
    PRIMARY KEY (message_id, code)
);
CALL pg_temp.protect('message_errors', across => true);

-- Whether a church sends; no row: it was never paused. A stop of everything holds until the church resumes.
CREATE TABLE sending (
    church_id uuid PRIMARY KEY,
    version integer NOT NULL DEFAULT 0,
    paused_at timestamptz,
    stop_id uuid,
    CONSTRAINT stop_pauses CHECK (stop_id IS NULL OR paused_at IS NOT NULL)
);
CALL pg_temp.protect('sending');
