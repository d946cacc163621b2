ALTER TABLE churches DROP COLUMN opt_out_line;
