-- A church's quiet hours: in its lane, since who changes them wakes it, and a claim that locks it reads what holds now.
ALTER TABLE lanes
    ADD COLUMN quiet_timezone text,
    ADD COLUMN quiet_from text,
    ADD COLUMN quiet_until text,
    ADD CONSTRAINT quiet CHECK (num_nulls(quiet_timezone, quiet_from, quiet_until) IN (0, 3));
