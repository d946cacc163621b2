CALL pg_temp.create_infrastructure();

-- Who may be on the other side: messaging's members, as far as the inbox shows them. A deleted one stays as a tombstone.
CREATE TABLE contacts (
    member_id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    version integer NOT NULL,
    first_name text NOT NULL,
    last_name text NOT NULL,
    phone_index bytea,
    deleted boolean NOT NULL
) WITH (fillfactor = 90);
CREATE INDEX contacts_phone_index ON contacts (church_id, phone_index) WHERE NOT deleted;
CALL pg_temp.protect('contacts');

CREATE TABLE numbers (
    number_id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    version integer NOT NULL,
    status text NOT NULL
);
CALL pg_temp.protect('numbers');

CREATE TABLE conversations (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    number_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    phone_ciphertext bytea NOT NULL,
    status text NOT NULL CHECK (status IN ('open', 'closed', 'archived')),
    unread_count integer NOT NULL DEFAULT 0 CHECK (unread_count >= 0),
    last_message_id uuid,
    last_message_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (church_id, phone_index, number_id)
) WITH (fillfactor = 80);
CREATE INDEX conversations_activity ON conversations (church_id, last_message_at DESC, id DESC);
CALL pg_temp.protect('conversations');

CREATE TABLE conversation_messages (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    direction text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    content text NOT NULL,
    media_urls text[] NOT NULL,
    status text,
    status_rank smallint,
    sent_by uuid,
    created_at timestamptz NOT NULL,
    CHECK ((direction = 'outbound') = (status IS NOT NULL AND status_rank IS NOT NULL AND sent_by IS NOT NULL))
) PARTITION BY RANGE (id);
CREATE INDEX conversation_messages_thread ON conversation_messages (conversation_id, id);
CALL pg_temp.protect('conversation_messages', across => true);
