-- What a recipient's row cannot tell: how its attempts ended, but for a plain acceptance, and what the carrier said beyond
-- its last word. Rows are added and never changed; who was sent to at first and got it has none.
CREATE TABLE trail (
    id uuid NOT NULL,  -- the recipient's
    at timestamptz NOT NULL,  -- of a receipt: by the carrier's clock
    what text NOT NULL CHECK (
        what IN (
            'accepted', 'rejected', 'refused', 'unknown', 'lost', 'left', 'receipt', 'look_up', 'record', 'given_up',
            'resent', 'closed'
        )
    ),
    church_id uuid NOT NULL,
    was text NOT NULL,  -- the recipient's status before
    became text NOT NULL,  -- and after: the same where the carrier's word came too late
    said text,  -- the carrier's word, in our states
    attempt integer NOT NULL,
    began_at timestamptz,  -- of an attempt: when it was claimed
    until timestamptz,  -- when it was to be tried, or asked for, again
    error_code text,
    error_message text,
    PRIMARY KEY (id, at, what)
) PARTITION BY RANGE (id);
CALL pg_temp.protect('trail', across => true);

-- The partitions that recipients has; others are made for both.
DO $$
DECLARE
    existing record;
BEGIN
    FOR existing IN
        SELECT
            replace(class.relname, 'recipients_', 'trail_') AS name,
            pg_get_expr(class.relpartbound, class.oid) AS bounds
        FROM pg_inherits
        JOIN pg_class AS class ON class.oid = pg_inherits.inhrelid
        WHERE pg_inherits.inhparent = 'recipients'::regclass
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF trail %s', existing.name, existing.bounds);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', existing.name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', existing.name);
    END LOOP;
END
$$;

DO $$
DECLARE
    service text := 'koinonia_' || current_schema();
BEGIN
    EXECUTE format('REVOKE UPDATE ON trail FROM %I', service);
    EXECUTE format('REVOKE UPDATE, DELETE ON trail FROM %I', service || '_across');
END
$$;

-- When an attempt began: the end of a call, or of a lease, tells it to the trail.
ALTER TABLE work ADD COLUMN claimed_at timestamptz;

-- Where the request that began a reply or an automatic text is to be found; of a broadcast, messaging knows it.
ALTER TABLE recipients ADD COLUMN traceparent text;

-- Since when the carrier itself blocks texts to this person; it holds while nothing later was said.
ALTER TABLE suppressions ADD COLUMN blocked_at timestamptz;

-- All segments that a number was ever given a place for: what it uses of its rate is the difference of two readings.
ALTER TABLE numbers ADD COLUMN segments_taken bigint NOT NULL DEFAULT 0;

-- What one person waits for is counted apart; a broadcast's rows never enter this index.
CREATE INDEX work_urgent ON work (due_at) WHERE state = 'ready' AND priority = 0;
