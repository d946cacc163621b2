UPDATE work SET state = 'ready' WHERE state = 'paused';
DROP TABLE carrier_account;
ALTER TABLE churches DROP COLUMN sending_version, DROP COLUMN sending_paused_at;
ALTER TABLE numbers
    DROP COLUMN paused_at, DROP COLUMN refused_at, DROP COLUMN refusal_code, DROP COLUMN refusal_reason;
ALTER TABLE work
    DROP COLUMN refusals,
    DROP CONSTRAINT work_state_check,
    DROP CONSTRAINT begun,
    ADD CONSTRAINT work_state_check CHECK (state IN ('ready', 'sending', 'unknown', 'overdue')),
    ADD CONSTRAINT begun CHECK (
        state IN ('ready', 'overdue')
        OR (group_started_at IS NOT NULL AND sender IS NOT NULL AND webhook_url IS NOT NULL)
    );
DROP INDEX broadcasts_moving;
ALTER TABLE broadcasts DROP COLUMN pause_version, DROP COLUMN paused_at, DROP COLUMN moved_version;
