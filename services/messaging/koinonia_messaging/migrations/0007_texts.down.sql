ALTER TABLE churches DROP COLUMN opt_out_line;
ALTER TABLE messages
    DROP COLUMN smart_encoding,
    DROP COLUMN template_id,
    DROP COLUMN template_version,
    DROP COLUMN audience_digest;
DROP INDEX messages_due_at;
DROP TABLE texted_numbers, template_versions, templates;
