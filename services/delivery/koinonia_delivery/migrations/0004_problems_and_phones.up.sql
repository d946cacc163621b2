-- What people look for and is rare by nature, by message and status, so that a list of it needs no status in an index of
-- recipients. Kept by triggers: no statement can forget it, also none of the code that ran before this migration.
CREATE TABLE problems (
    source_id uuid NOT NULL,
    status text NOT NULL CHECK (
        status IN ('unknown', 'undelivered', 'unconfirmed', 'failed', 'suppressed', 'expired')
    ),
    id uuid NOT NULL,  -- the recipient's
    church_id uuid NOT NULL,
    PRIMARY KEY (source_id, status, id)
) PARTITION BY RANGE (id);
CALL pg_temp.protect('problems', across => true);

-- Every phone that a member has or had, as far as messaging told: whose copies a member's texts are looked for in.
CREATE TABLE member_phones (
    member_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    church_id uuid NOT NULL,
    PRIMARY KEY (member_id, phone_index)
);
CALL pg_temp.protect('member_phones');

-- A person's copies, newest last. Nothing but an erasure changes these columns, so that updates stay on their page.
CREATE INDEX recipients_phone ON recipients (phone_index, id);

-- The partitions that recipients has; others are made for both.
DO $$
DECLARE
    existing record;
BEGIN
    FOR existing IN
        SELECT
            replace(class.relname, 'recipients_', 'problems_') AS name,
            pg_get_expr(class.relpartbound, class.oid) AS bounds
        FROM pg_inherits
        JOIN pg_class AS class ON class.oid = pg_inherits.inhrelid
        WHERE pg_inherits.inhparent = 'recipients'::regclass
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF problems %s', existing.name, existing.bounds);
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', existing.name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', existing.name);
    END LOOP;
END
$$;

CREATE FUNCTION note_problem() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM problems
        WHERE problems.source_id = OLD.source_id AND problems.status = OLD.status AND problems.id = OLD.id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO problems (source_id, status, id, church_id)
        SELECT NEW.source_id, NEW.status, NEW.id, NEW.church_id
        WHERE NEW.status IN ('unknown', 'undelivered', 'unconfirmed', 'failed', 'suppressed', 'expired');
    END IF;
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION note_problem() FROM PUBLIC;

-- The conditions are judged without a call: the way from queued to delivered pays for none.
CREATE TRIGGER problem_stored AFTER INSERT ON recipients FOR EACH ROW
WHEN (NEW.status IN ('unknown', 'undelivered', 'unconfirmed', 'failed', 'suppressed', 'expired'))
EXECUTE FUNCTION note_problem();
CREATE TRIGGER problem_changed AFTER UPDATE OF status ON recipients FOR EACH ROW
WHEN (
    OLD.status <> NEW.status
    AND (
        OLD.status IN ('unknown', 'undelivered', 'unconfirmed', 'failed', 'suppressed', 'expired')
        OR NEW.status IN ('unknown', 'undelivered', 'unconfirmed', 'failed', 'suppressed', 'expired')
    )
)
EXECUTE FUNCTION note_problem();
CREATE TRIGGER problem_deleted AFTER DELETE ON recipients FOR EACH ROW
WHEN (OLD.status IN ('unknown', 'undelivered', 'unconfirmed', 'failed', 'suppressed', 'expired'))
EXECUTE FUNCTION note_problem();

-- The triggers' locks keep writers waiting until this has committed, so that no row falls between.
INSERT INTO problems (source_id, status, id, church_id)
SELECT source_id, status, id, church_id
FROM recipients
WHERE status IN ('unknown', 'undelivered', 'unconfirmed', 'failed', 'suppressed', 'expired');

INSERT INTO member_phones (member_id, phone_index, church_id)
SELECT member_id, phone_index, church_id FROM consents WHERE phone_index IS NOT NULL
UNION
SELECT member_id, phone_index, church_id FROM recipients CROSS JOIN unnest(member_ids) AS member_id;

-- Queues are empty at one moment and have 100,000 rows at the next: old statistics make a claim touch three times as many
-- pages, and what is dead in them is no share of what they hold.
ALTER TABLE work SET (autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);
ALTER TABLE outbox SET (autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000);
ALTER TABLE inbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
ALTER TABLE parked_receipts SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
