-- Messages that are sent again and again. Times without a zone are wall times, in the zone beside them.
CREATE TABLE recurring_messages (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    requested_by uuid NOT NULL,  -- who made it, or changed last what it says or to whom: does not approve its runs
    content text,
    template_id uuid,  -- in place of content: its text as it is at each run
    media_urls text[] NOT NULL,
    target_type text NOT NULL CHECK (target_type IN ('individual', 'groups', 'branches', 'all')),
    target_ids uuid[] NOT NULL,
    tags text[] NOT NULL,
    excluded_member_ids uuid[] NOT NULL,
    excluded_group_ids uuid[] NOT NULL,
    excluded_branch_ids uuid[] NOT NULL,
    smart_encoding boolean NOT NULL,
    number_id uuid,
    rrule text NOT NULL,
    timezone text NOT NULL,
    start_at timestamp NOT NULL,
    missed_runs text NOT NULL CHECK (missed_runs IN ('once', 'skip')),
    paused_at timestamptz,
    upcoming timestamp[] NOT NULL,  -- the next slots, five at most; none: it has ended
    next_run_at timestamptz,  -- of the first of them; null: it is paused or has ended
    turned_at timestamptz NOT NULL,  -- when they were decided; in the future: the clock was set back since
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    attempt integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CHECK ((content IS NULL) <> (template_id IS NULL)),
    CHECK (next_run_at IS NULL OR (paused_at IS NULL AND cardinality(upcoming) > 0))
) WITH (fillfactor = 70);
CREATE INDEX recurring_messages_page ON recurring_messages (church_id, id);
CREATE INDEX recurring_messages_due ON recurring_messages (next_run_at) WHERE next_run_at IS NOT NULL;
CREATE INDEX recurring_messages_turned ON recurring_messages (turned_at) WHERE next_run_at IS NOT NULL;
CALL pg_temp.protect('recurring_messages', across => true);

-- What became of each slot. Its key is what makes a run happen once.
CREATE TABLE recurring_runs (
    recurring_id uuid NOT NULL REFERENCES recurring_messages (id) ON DELETE CASCADE,
    slot timestamp NOT NULL,
    church_id uuid NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('sent', 'skipped', 'failed')),
    message_id uuid,
    reason text,
    decided_at timestamptz NOT NULL,
    PRIMARY KEY (recurring_id, slot),
    CHECK ((outcome = 'sent') = (message_id IS NOT NULL)),
    CHECK ((outcome = 'sent') = (reason IS NULL))
);
CALL pg_temp.protect('recurring_runs');

ALTER TABLE messages
    ADD COLUMN recurring_id uuid,  -- whose run it is
    ADD COLUMN do_not_send_after timestamptz;  -- null: it goes however late
