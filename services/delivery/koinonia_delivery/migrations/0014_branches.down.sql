ALTER TABLE recipients DROP COLUMN branch_id;
