-- How many bulk texts a number gets in a week at most; null: as many as are sent.
ALTER TABLE churches ADD COLUMN weekly_limit integer;

-- Which bulk texts a number has had, by blind index, in a week: of churches that have set such a limit, while they have it.
CREATE TABLE bulk_texts (
    church_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    message_id uuid NOT NULL,
    texted_at timestamptz NOT NULL,  -- when its page was streamed
    PRIMARY KEY (church_id, phone_index, message_id)
);
CREATE INDEX bulk_texts_texted_at ON bulk_texts (texted_at);
CALL pg_temp.protect('bulk_texts', across => true);
