ALTER TABLE broadcasts DROP COLUMN ended_at;
