ALTER TABLE churches
    DROP CONSTRAINT churches_quiet_hours_check,
    DROP COLUMN quiet_from,
    DROP COLUMN quiet_until,
    DROP COLUMN default_number_id,
    DROP COLUMN retention_days;
