ALTER TABLE churches
    DROP COLUMN undo_seconds,
    DROP COLUMN approval_above;
