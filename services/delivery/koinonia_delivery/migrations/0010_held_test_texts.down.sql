DROP INDEX test_work_church;
ALTER TABLE test_work DROP COLUMN held_at;
