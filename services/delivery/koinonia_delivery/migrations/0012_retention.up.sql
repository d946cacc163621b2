-- Churches that keep what was sent for a shorter time than the platform, and until when older copies are deleted already.
CREATE TABLE retentions (
    church_id uuid PRIMARY KEY,
    days integer NOT NULL CHECK (days > 0),
    deleted_until timestamptz
);
CALL pg_temp.protect('retentions', across => true);

DO $$
BEGIN
    EXECUTE format('REVOKE INSERT, DELETE ON retentions FROM %I', 'koinonia_' || current_schema() || '_across');
END
$$;
