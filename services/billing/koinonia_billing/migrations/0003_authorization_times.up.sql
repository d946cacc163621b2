-- When a broadcast was first authorized; changed_at moves on when it is settled.
ALTER TABLE reservations ADD COLUMN authorized_at timestamptz;

UPDATE reservations SET authorized_at = changed_at WHERE status = 'reserved';
