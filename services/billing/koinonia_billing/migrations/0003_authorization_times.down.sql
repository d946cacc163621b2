ALTER TABLE reservations DROP COLUMN authorized_at;
