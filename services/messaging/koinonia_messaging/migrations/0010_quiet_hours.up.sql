-- The church's quiet hours, by which plans are made: delivery keeps them.
ALTER TABLE churches
    ADD COLUMN quiet_from text,
    ADD COLUMN quiet_until text,
    ADD CONSTRAINT quiet CHECK ((quiet_from IS NULL) = (quiet_until IS NULL));

-- Why a message goes in them all the same; null: it does not.
ALTER TABLE messages ADD COLUMN urgent_reason text;
