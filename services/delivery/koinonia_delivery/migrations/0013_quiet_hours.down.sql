-- The code before looks for what persons wait for and for broadcasts alone: an urgent one would stay for ever.
UPDATE work SET priority = 1 WHERE priority = 2;
ALTER TABLE lanes
    DROP CONSTRAINT quiet,
    DROP COLUMN quiet_timezone,
    DROP COLUMN quiet_from,
    DROP COLUMN quiet_until;
