DROP INDEX work_claimable;
CREATE INDEX work_ready ON work (number_id, priority, due_at, recipient_id) WHERE state = 'ready';
DROP INDEX work_person;
CREATE INDEX work_person ON work (church_id, phone_index) WHERE state = 'sending';
ALTER TABLE work DROP COLUMN is_held;
DROP TRIGGER work_updated ON work;
DROP TRIGGER work_inserted ON work;
DROP FUNCTION wake_lanes;
DROP TABLE lanes;
