ALTER TABLE emails DROP COLUMN unknowns;
