ALTER TABLE churches
    ADD COLUMN undo_seconds integer NOT NULL DEFAULT 0 CHECK (undo_seconds >= 0),
    ADD COLUMN approval_above integer CHECK (approval_above >= 0);
