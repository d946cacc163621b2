ALTER TABLE churches DROP COLUMN weekly_limit;
