-- What was sent with a test key. Its rows never stand in work, which workers claim from: no claim can take one.
ALTER TABLE recipients ADD COLUMN test boolean NOT NULL DEFAULT false;
ALTER TABLE broadcasts ADD COLUMN test boolean NOT NULL DEFAULT false;

-- What the simulated carrier has still to do for a test's recipient; the row goes when that one is closed.
CREATE TABLE test_work (
    recipient_id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    due_at timestamptz NOT NULL,
    do_not_send_after timestamptz,
    traceparent text,
    correlation_id text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX test_work_due_at ON test_work (due_at);
CALL pg_temp.protect('test_work', across => true);

DO $$
BEGIN
    EXECUTE format('REVOKE INSERT ON test_work FROM %I', 'koinonia_' || current_schema() || '_across');
END
$$;
