ALTER TABLE messages DROP COLUMN recurring_id, DROP COLUMN do_not_send_after;
DROP TABLE recurring_runs;
DROP TABLE recurring_messages;
