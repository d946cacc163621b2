-- What stands below each broadcast that does not tell how to opt out. Null: nothing.
ALTER TABLE churches ADD COLUMN opt_out_line text CHECK (opt_out_line <> '');
