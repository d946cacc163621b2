-- Texts to send again. Each text that a template ever had stays, for the messages that used it.
CREATE TABLE templates (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX templates_name ON templates (church_id, lower(name)) WHERE deleted_at IS NULL;
CREATE INDEX templates_page ON templates (church_id, id) WHERE deleted_at IS NULL;
CALL pg_temp.protect('templates');

CREATE TABLE template_versions (
    template_id uuid NOT NULL REFERENCES templates (id) ON DELETE CASCADE,
    version integer NOT NULL,
    church_id uuid NOT NULL,
    content text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (template_id, version)
);
CALL pg_temp.protect('template_versions');

ALTER TABLE messages
    -- Whether typographic characters become those of GSM-7: in the text already, in people's values when filled in.
    ADD COLUMN smart_encoding boolean NOT NULL DEFAULT false,
    ADD COLUMN template_id uuid,
    ADD COLUMN template_version integer,
    -- Of the numbers that could be texted when it was accepted, in any order; null: accepted before this was noted.
    ADD COLUMN audience_digest bigint,
    ADD CONSTRAINT template_version_kept FOREIGN KEY (template_id, template_version) REFERENCES template_versions,
    ADD CONSTRAINT template_version_known CHECK ((template_id IS NULL) = (template_version IS NULL));
CREATE INDEX messages_due_at ON messages (church_id, due_at);  -- for the same text to the same people at that time
CREATE INDEX messages_template ON messages (template_id, template_version) WHERE template_id IS NOT NULL;

-- Whom the church has texted, by number: who is not here gets the first text, which should say whom it is from.
CREATE TABLE texted_numbers (
    church_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    PRIMARY KEY (church_id, phone_index)
);
CALL pg_temp.protect('texted_numbers');

ALTER TABLE churches ADD COLUMN opt_out_line text;
