-- A paused broadcast's rows leave the index of what is ready, and come back in their order: their due_at stays.
ALTER TABLE broadcasts
    ADD COLUMN pause_version integer NOT NULL DEFAULT 0,
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN moved_version integer NOT NULL DEFAULT 0;  -- as of which all of its rows stand aside, or are back
CREATE INDEX broadcasts_moving ON broadcasts (message_id) WHERE moved_version <> pause_version;

ALTER TABLE work
    DROP CONSTRAINT work_state_check,
    DROP CONSTRAINT begun,
    ADD CONSTRAINT work_state_check CHECK (state IN ('ready', 'paused', 'sending', 'unknown', 'overdue')),
    ADD CONSTRAINT begun CHECK (
        state IN ('ready', 'paused', 'overdue')
        OR (group_started_at IS NOT NULL AND sender IS NOT NULL AND webhook_url IS NOT NULL)
    ),
    ADD COLUMN refusals integer NOT NULL DEFAULT 0;  -- how often the carrier would not take it for now

-- What keeps a number from sending, beside its status: a person, or the carrier's refusal of all that comes from it.
ALTER TABLE numbers
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN refused_at timestamptz,  -- the last time
    ADD COLUMN refusal_code text,
    ADD COLUMN refusal_reason text,
    ADD CONSTRAINT refused CHECK ((refused_at IS NULL) = (refusal_reason IS NULL));

ALTER TABLE churches
    ADD COLUMN sending_version integer NOT NULL DEFAULT 0,
    ADD COLUMN sending_paused_at timestamptz;

-- One row: whether the carrier refuses the platform's account (a revoked key, no balance).
CREATE TABLE carrier_account (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    refused_at timestamptz,
    refusal_code text,
    refusal_reason text,
    CONSTRAINT refused CHECK ((refused_at IS NULL) = (refusal_reason IS NULL))
);
INSERT INTO carrier_account DEFAULT VALUES;
CALL pg_temp.share('carrier_account');

DO $$
DECLARE
    across text := 'koinonia_' || current_schema() || '_across';
BEGIN
    EXECUTE format('REVOKE INSERT, DELETE ON carrier_account FROM %I', across);
END
$$;
