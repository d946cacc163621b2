ALTER TABLE churches ADD COLUMN weekly_limit integer CHECK (weekly_limit BETWEEN 1 AND 50);
