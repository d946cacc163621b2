DROP TABLE message_errors, sending;
DROP INDEX messages_stop;
ALTER TABLE messages
    DROP COLUMN pause_version, DROP COLUMN paused_at, DROP COLUMN pause_reason,
    DROP COLUMN answers_seen, DROP COLUMN refusals_seen, DROP COLUMN receipts_seen, DROP COLUMN undelivered_seen,
    DROP COLUMN stop_id, DROP COLUMN stop_total, DROP COLUMN stop_sent, DROP COLUMN stop_in_flight,
    DROP COLUMN credited_segments, DROP COLUMN credited_cents;
