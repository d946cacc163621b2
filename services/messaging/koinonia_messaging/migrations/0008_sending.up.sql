-- Who gets no text, though the target names them.
ALTER TABLE messages
    ADD COLUMN excluded_member_ids uuid[] NOT NULL DEFAULT '{}',
    ADD COLUMN excluded_group_ids uuid[] NOT NULL DEFAULT '{}',
    ADD COLUMN excluded_branch_ids uuid[] NOT NULL DEFAULT '{}';

-- The church's own rules: how long an accepted message waits, above how many people a second admin approves, and from
-- which number a message goes that names none.
ALTER TABLE churches
    ADD COLUMN undo_seconds integer NOT NULL DEFAULT 0,
    ADD COLUMN approval_above integer,
    ADD COLUMN default_number_id uuid;

ALTER TABLE messages
    ADD COLUMN requested_by uuid,  -- the admin or API key; null: asked for before this was noted
    ADD COLUMN undo_until timestamptz,
    ADD COLUMN approved_by uuid,
    ADD COLUMN approved_at timestamptz,
    ADD COLUMN approved_people integer,  -- who could be texted then: many more need another approval
    ADD COLUMN rejection_reason text,
    ADD CONSTRAINT approval_told
        CHECK ((approved_by IS NULL) = (approved_at IS NULL) AND (approved_by IS NULL) = (approved_people IS NULL)),
    ADD CONSTRAINT rejected_is_cancelled CHECK (rejection_reason IS NULL OR status = 'cancelled');

-- A message that is sent again to those whom another one did not reach: first they are gathered, then it is due. One
-- message has one such: whom that does not reach either, is sent to again by one after it.
ALTER TABLE messages
    ADD COLUMN resend_of uuid,
    ADD COLUMN gathering boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT gathering_resends CHECK (NOT gathering OR resend_of IS NOT NULL);
CREATE UNIQUE INDEX messages_resend_of ON messages (resend_of)
    WHERE resend_of IS NOT NULL AND status NOT IN ('declined', 'failed')
        AND (status <> 'cancelled' OR streamed_recipients > 0);

CREATE TABLE resend_members (
    message_id uuid NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    member_id uuid NOT NULL,
    church_id uuid NOT NULL,
    PRIMARY KEY (message_id, member_id)
);
CALL pg_temp.protect('resend_members');

-- The tags in use are read from here, without the texts.
CREATE INDEX messages_tagged ON messages (church_id, created_at) INCLUDE (tags) WHERE tags <> '{}' AND NOT test;
