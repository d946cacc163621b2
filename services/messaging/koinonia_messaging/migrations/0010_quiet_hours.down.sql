ALTER TABLE messages DROP COLUMN urgent_reason;
ALTER TABLE churches
    DROP CONSTRAINT quiet,
    DROP COLUMN quiet_from,
    DROP COLUMN quiet_until;
