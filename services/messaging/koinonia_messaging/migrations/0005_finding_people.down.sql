DROP TRIGGER members_erased ON members;
DROP TRIGGER members_updated ON members;
DROP TRIGGER members_inserted ON members;
DROP FUNCTION keep_words;
DROP TABLE member_words;
DROP INDEX members_merged_phone_index;
DROP INDEX members_merged_external_id;
DROP INDEX members_deleted;
CREATE INDEX members_branch_id ON members (branch_id) WHERE deleted_at IS NULL;
DROP INDEX members_branch_page;
DROP INDEX members_email_index;
ALTER TABLE members
    DROP CONSTRAINT merged_are_deleted,
    DROP COLUMN merged_into,
    DROP COLUMN left_groups,
    DROP COLUMN name_words;
DROP FUNCTION folded;
