DROP INDEX work_urgent;
ALTER TABLE numbers DROP COLUMN segments_taken;
ALTER TABLE suppressions DROP COLUMN blocked_at;
ALTER TABLE recipients DROP COLUMN traceparent;
ALTER TABLE work DROP COLUMN claimed_at;
DROP TABLE trail;
