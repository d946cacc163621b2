-- People, audiences and messages of a church, and the little that messaging must know of the other services' facts.

CALL pg_temp.create_infrastructure();

-- Projections: the newest version of each fact wins.

CREATE TABLE churches (
    church_id uuid PRIMARY KEY,
    version integer NOT NULL,
    name text NOT NULL,
    timezone text NOT NULL,
    region text NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'suspended', 'erased'))
);
CALL pg_temp.protect('churches');

CREATE TABLE numbers (
    number_id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    version integer NOT NULL,
    phone text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('long_code', 'toll_free', 'short_code')),
    status text NOT NULL CHECK (status IN ('pending', 'active', 'held', 'released')),
    is_default boolean NOT NULL
);
CREATE INDEX numbers_church_id ON numbers (church_id);
CALL pg_temp.protect('numbers');

CREATE TABLE suppressions (
    church_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    suppressed boolean NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (church_id, phone_index)
);
CALL pg_temp.protect('suppressions');

-- People.

CREATE TABLE branches (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    is_default boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX branches_name ON branches (church_id, lower(name));
CREATE UNIQUE INDEX branches_default ON branches (church_id) WHERE is_default;
CREATE INDEX branches_page ON branches (church_id, id);
CALL pg_temp.protect('branches');

CREATE TABLE groups (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    branch_id uuid REFERENCES branches (id),
    member_count integer NOT NULL DEFAULT 0 CHECK (member_count >= 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX groups_name ON groups (church_id, lower(name));
CREATE INDEX groups_page ON groups (church_id, id);
CREATE INDEX groups_branch_id ON groups (branch_id);
CALL pg_temp.protect('groups');

CREATE TABLE members (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    version integer NOT NULL,
    first_name text NOT NULL,
    last_name text NOT NULL,
    name_key text NOT NULL,  -- both names, folded: what "the same name" and the search compare
    phone_ciphertext bytea NOT NULL,
    phone_index bytea NOT NULL CHECK (length(phone_index) = 16),
    email_ciphertext bytea,
    email_index bytea CHECK (length(email_index) = 16),
    branch_id uuid NOT NULL REFERENCES branches (id),
    opted_in boolean NOT NULL,
    external_id text,
    custom_fields jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    CHECK ((email_ciphertext IS NULL) = (email_index IS NULL))
);
CREATE UNIQUE INDEX members_external_id ON members (church_id, external_id)
    WHERE external_id IS NOT NULL AND deleted_at IS NULL;
CREATE UNIQUE INDEX members_person ON members (church_id, phone_index, name_key)
    WHERE external_id IS NULL AND deleted_at IS NULL;
CREATE INDEX members_phone_index ON members (church_id, phone_index) WHERE deleted_at IS NULL;
CREATE INDEX members_page ON members (church_id, id) WHERE deleted_at IS NULL;
CREATE INDEX members_branch_id ON members (branch_id) WHERE deleted_at IS NULL;
CALL pg_temp.protect('members');

CREATE TABLE group_members (
    group_id uuid NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    member_id uuid NOT NULL REFERENCES members (id) ON DELETE CASCADE,
    church_id uuid NOT NULL,
    PRIMARY KEY (group_id, member_id)
);
CREATE INDEX group_members_member_id ON group_members (member_id, group_id);
CALL pg_temp.protect('group_members');

-- Numbers whose consent an admin withdrew: no import gives it again. What a person texted lies in suppressions.
CREATE TABLE opt_outs (
    church_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (church_id, phone_index)
);
CALL pg_temp.protect('opt_outs');

-- What an import did, for the same request sent again. Errors name rows and fields, never what stood in them.
CREATE TABLE imports (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    created integer NOT NULL,
    updated integer NOT NULL,
    skipped integer NOT NULL,
    errors jsonb NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX imports_church_id ON imports (church_id, created_at);
CALL pg_temp.protect('imports');

-- Messages.

CREATE TABLE messages (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    status text NOT NULL CHECK (status IN (
        'awaiting_approval', 'scheduled', 'accepted', 'declined', 'sending', 'paused', 'handed_over', 'completed',
        'cancelled', 'failed'
    )),
    revision integer NOT NULL DEFAULT 1,  -- grows with every change that a watcher can see
    content text NOT NULL,
    media_urls text[] NOT NULL,
    target_type text NOT NULL CHECK (target_type IN ('individual', 'groups', 'branches', 'all')),
    target_ids uuid[] NOT NULL,
    tags text[] NOT NULL,
    number_id uuid,
    encoding text NOT NULL CHECK (encoding IN ('GSM-7', 'UCS-2')),
    segments integer NOT NULL CHECK (segments BETWEEN 1 AND 10),  -- of one copy, at most
    created_at timestamptz NOT NULL,
    scheduled_at timestamptz,
    due_at timestamptz NOT NULL,
    correlation_id text,  -- of the request, for the logs and traces of all that follows
    traceparent text,

    -- The question to billing, and its answer.
    version integer NOT NULL DEFAULT 0,  -- of the last question
    awaiting_answer boolean NOT NULL DEFAULT false,
    segment_bound integer NOT NULL CHECK (segment_bound >= 0),  -- of all copies, at most
    authorized_bound integer NOT NULL DEFAULT 0,
    decline_reason text CHECK (decline_reason IN ('plan_limit', 'no_subscription', 'suspended')),

    -- How far the audience is streamed.
    dispatched_at timestamptz,  -- the time in each recipient's id
    cursor bytea NOT NULL DEFAULT '',  -- the last number that was streamed, by its index
    streamed_recipients integer NOT NULL DEFAULT 0,
    streamed_bound integer NOT NULL DEFAULT 0,
    resolved boolean NOT NULL DEFAULT false,
    page_at timestamptz NOT NULL DEFAULT '-infinity',

    -- Who works on its next step, the question or a page. A step that fails leaves its lease, longer with each attempt.
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    attempt integer NOT NULL DEFAULT 0,  -- at the step that is next; 0 again once that is done

    -- Recipients by status, as delivery tells: differences add up in any order, so one may be below zero for a moment.
    total_recipients integer NOT NULL,
    queued integer NOT NULL DEFAULT 0,
    sending integer NOT NULL DEFAULT 0,
    sent integer NOT NULL DEFAULT 0,
    unknown integer NOT NULL DEFAULT 0,
    delivered integer NOT NULL DEFAULT 0,
    undelivered integer NOT NULL DEFAULT 0,
    unconfirmed integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    suppressed integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    expired integer NOT NULL DEFAULT 0,
    arrived integer NOT NULL GENERATED ALWAYS AS (
        queued + sending + sent + unknown + delivered + undelivered + unconfirmed + failed + suppressed + cancelled
        + expired
    ) STORED,
    handed_over_at timestamptz,
    completed_at timestamptz,
    cancelled_at timestamptz,

    CHECK (streamed_bound <= authorized_bound),
    CHECK (status <> 'scheduled' OR scheduled_at IS NOT NULL),
    CHECK (status <> 'declined' OR decline_reason IS NOT NULL),
    CHECK (status NOT IN ('sending', 'handed_over', 'completed') OR dispatched_at IS NOT NULL),
    CHECK (status NOT IN ('handed_over', 'completed') OR (resolved AND handed_over_at IS NOT NULL)),
    CHECK (status <> 'completed' OR completed_at IS NOT NULL),
    CHECK ((status = 'cancelled') = (cancelled_at IS NOT NULL)),
    CHECK (completed_at IS NULL OR status IN ('completed', 'cancelled'))
) WITH (fillfactor = 70);
CREATE INDEX messages_page ON messages (church_id, id);
CREATE INDEX messages_due ON messages (due_at) WHERE status IN ('accepted', 'scheduled') AND NOT awaiting_answer;
CREATE INDEX messages_streaming ON messages (page_at) WHERE status = 'sending' AND NOT resolved AND NOT awaiting_answer;
CALL pg_temp.protect('messages', across => true);
