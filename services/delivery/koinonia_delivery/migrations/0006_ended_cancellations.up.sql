-- A cancelled broadcast is swept when no row of it waits, and has ended when no worker holds one either: a call that was
-- not begun puts its row back. Broadcasts that were cancelled before are looked at once more.
ALTER TABLE broadcasts ADD COLUMN ended_at timestamptz;
CREATE INDEX broadcasts_ending ON broadcasts (message_id) WHERE swept_at IS NOT NULL AND ended_at IS NULL;
