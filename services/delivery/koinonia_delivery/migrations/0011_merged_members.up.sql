-- Whose messages a merged member's are, too.
ALTER TABLE consents ADD COLUMN merged_into uuid;
CREATE INDEX consents_merged_into ON consents (merged_into) WHERE merged_into IS NOT NULL;
