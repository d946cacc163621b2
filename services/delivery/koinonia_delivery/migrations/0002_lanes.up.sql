-- A church's lane: from when on a claim for it can do something. It is never later than that, and may be earlier.
CREATE TABLE lanes (
    church_id uuid PRIMARY KEY,
    wake_at timestamptz,  -- null: nothing of the church waits
    urgent_at timestamptz,  -- the same of what one person waits for (priority 0)
    CONSTRAINT awake CHECK (wake_at IS NOT NULL OR urgent_at IS NULL)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX lanes_wake_at ON lanes (wake_at) WHERE wake_at IS NOT NULL;
CREATE INDEX lanes_urgent_at ON lanes (urgent_at) WHERE urgent_at IS NOT NULL;
CALL pg_temp.protect('lanes', across => true);

-- Whoever makes work claimable wakes its church's lane in the same transaction: no statement can forget it. A claim that
-- has the lane locked is waited for, so that what it writes into the lane is lowered and not the other way round.
CREATE FUNCTION wake_lanes() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO lanes (church_id, wake_at, urgent_at)
    SELECT claimable.church_id, min(claimable.at), min(claimable.at) FILTER (WHERE claimable.priority = 0)
    FROM (
        SELECT changed.church_id, changed.priority, greatest(changed.due_at, clock_timestamp()) AS at
        FROM changed
        WHERE changed.state = 'ready' OR (changed.state = 'unknown' AND changed.resend)
    ) AS claimable
    GROUP BY claimable.church_id
    ORDER BY claimable.church_id
    ON CONFLICT (church_id) DO UPDATE
    SET wake_at = least(lanes.wake_at, excluded.wake_at), urgent_at = least(lanes.urgent_at, excluded.urgent_at);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION wake_lanes() FROM PUBLIC;
CREATE TRIGGER work_inserted AFTER INSERT ON work
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION wake_lanes();
CREATE TRIGGER work_updated AFTER UPDATE ON work
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION wake_lanes();

-- A held text keeps those back that its person was sent later, so that they go in their order once the hold ends.
ALTER TABLE work ADD COLUMN is_held boolean NOT NULL DEFAULT false;
DROP INDEX work_person;
CREATE INDEX work_person ON work (church_id, phone_index) WHERE state = 'sending' OR is_held;

-- What a claim may take, repeats of unknown ones included, in its order.
DROP INDEX work_ready;
CREATE INDEX work_claimable ON work (number_id, priority, due_at, recipient_id)
WHERE state = 'ready' OR (state = 'unknown' AND resend);

INSERT INTO lanes (church_id, wake_at, urgent_at)
SELECT church_id, min(due_at), min(due_at) FILTER (WHERE priority = 0)
FROM work
WHERE state = 'ready' OR (state = 'unknown' AND resend)
GROUP BY church_id;

-- The service wakes lanes; only a church's erasure removes one.
DO $$
BEGIN
    EXECUTE format('REVOKE DELETE ON lanes FROM %I', 'koinonia_' || current_schema() || '_across');
END
$$;
