-- What a cancelled broadcast gave back of its reservation.
ALTER TABLE reservations
    ADD COLUMN credited_segments integer CHECK (credited_segments >= 0),
    ADD COLUMN credited_cents integer CHECK (credited_cents >= 0),
    ADD CONSTRAINT credited CHECK ((credited_segments IS NULL) = (credited_cents IS NULL));
