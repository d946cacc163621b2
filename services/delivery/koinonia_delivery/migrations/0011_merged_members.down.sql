ALTER TABLE consents DROP COLUMN merged_into;
