ALTER TABLE churches
    ADD COLUMN quiet_from text,
    ADD COLUMN quiet_until text,
    ADD COLUMN default_number_id uuid,
    ADD COLUMN retention_days integer CHECK (retention_days > 0),
    ADD CONSTRAINT churches_quiet_hours_check CHECK ((quiet_from IS NULL) = (quiet_until IS NULL));
