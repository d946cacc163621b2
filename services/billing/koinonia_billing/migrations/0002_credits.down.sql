ALTER TABLE reservations DROP COLUMN credited_segments, DROP COLUMN credited_cents;
