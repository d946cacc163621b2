CALL pg_temp.create_infrastructure();

-- Churches as far as sending needs them.
CREATE TABLE churches (
    church_id uuid PRIMARY KEY,
    version integer NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'suspended', 'erased'))
);
CALL pg_temp.protect('churches');

-- A church's own numbers, and the clock of each: no text may begin before next_free_at. The clock is in no index.
CREATE TABLE numbers (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    phone text NOT NULL UNIQUE,
    kind text NOT NULL CHECK (kind IN ('long_code', 'toll_free', 'short_code')),
    segments_per_second double precision NOT NULL CHECK (segments_per_second > 0),
    messaging_profile_id text NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'active', 'held', 'released')),
    is_default boolean NOT NULL,
    version integer NOT NULL DEFAULT 1,
    next_free_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
CREATE INDEX numbers_church ON numbers (church_id, id);
CREATE UNIQUE INDEX numbers_default ON numbers (church_id) WHERE is_default;
CALL pg_temp.protect('numbers', across => true);

-- The wish for a number, saved before the carrier is asked: its id is the customer reference, and the number's id.
CREATE TABLE number_orders (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL UNIQUE,
    messaging_profile_id text,
    phone text,
    order_id text,
    next_try_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tries integer NOT NULL DEFAULT 0,
    completed_at timestamptz
);
CREATE INDEX number_orders_open ON number_orders (next_try_at) WHERE completed_at IS NULL;
CALL pg_temp.protect('number_orders', across => true);

-- Broadcasts: when they were dispatched (the time in their recipients' ids), and the tombstone of those cancelled.
CREATE TABLE broadcasts (
    message_id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    dispatched_at timestamptz,
    recipient_count integer,
    cancelled_at timestamptz,
    swept_at timestamptz  -- of a cancelled one: no row of it waits any more
);
CREATE INDEX broadcasts_cancelled ON broadcasts (message_id) WHERE cancelled_at IS NOT NULL AND swept_at IS NULL;
CALL pg_temp.protect('broadcasts', across => true);

-- One person's copy of a text. Reached by id alone; its status stands in no index, so that its updates stay on the page.
CREATE TABLE recipients (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    source_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('broadcast', 'reply', 'compliance')),
    status text NOT NULL CHECK (
        status IN (
            'queued', 'sending', 'sent', 'unknown', 'delivered', 'undelivered', 'unconfirmed', 'failed', 'suppressed',
            'cancelled', 'expired'
        )
    ),
    segments smallint NOT NULL,
    encoding text NOT NULL CHECK (encoding IN ('GSM-7', 'UCS-2')),
    attempt integer NOT NULL DEFAULT 0,
    number_id uuid,
    member_ids uuid[] NOT NULL,
    phone_index bytea NOT NULL,
    phone_ciphertext bytea NOT NULL,
    text text NOT NULL,
    media_urls text[] NOT NULL,
    carrier_id text,
    error_code text,
    error_message text,
    accepted_at timestamptz,  -- first known to be accepted by the carrier: what is metered, once
    sent_at timestamptz,
    delivered_at timestamptz,
    settled_at timestamptz,
    CONSTRAINT settled CHECK (
        (settled_at IS NULL) = (status IN ('queued', 'sending', 'sent', 'unknown'))
    ),
    CONSTRAINT accepted CHECK (
        status NOT IN ('sent', 'delivered', 'undelivered') OR (accepted_at IS NOT NULL AND sent_at IS NOT NULL)
    ),
    CONSTRAINT delivered CHECK ((delivered_at IS NOT NULL) = (status = 'delivered')),
    CONSTRAINT sendable CHECK (number_id IS NOT NULL OR settled_at IS NOT NULL)
) PARTITION BY RANGE (id);
CALL pg_temp.protect('recipients', across => true);

-- What is still to be done for a recipient; the row goes when it is sent or closed.
--   ready: may be claimed from due_at on. sending: a worker holds it until leased_until.
--   unknown: its call's outcome is open; at due_at it is sent again under its key (resend), or looked up.
--   overdue: sent long ago without a last receipt; at due_at it is looked up.
CREATE TABLE work (
    recipient_id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    source_id uuid NOT NULL,
    number_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    priority smallint NOT NULL,  -- 0: one person is waiting for it; 1: a broadcast
    segments smallint NOT NULL,
    passes_suppression boolean NOT NULL DEFAULT false,
    state text NOT NULL CHECK (state IN ('ready', 'sending', 'unknown', 'overdue')),
    due_at timestamptz NOT NULL,
    leased_until timestamptz,
    attempt integer NOT NULL DEFAULT 0,
    resend boolean NOT NULL DEFAULT true,
    is_late boolean NOT NULL DEFAULT false,  -- the scan for overdue receipts has passed it: once sent, it stays as overdue
    do_not_send_after timestamptz,
    -- Fixed at the first attempt of a group, so that a repeat is the same request byte for byte.
    group_started_at timestamptz,
    sender text,
    messaging_profile_id text,
    webhook_url text,
    traceparent text,
    correlation_id text,
    CONSTRAINT leased CHECK ((leased_until IS NOT NULL) = (state = 'sending')),
    CONSTRAINT begun CHECK (
        state IN ('ready', 'overdue')
        OR (group_started_at IS NOT NULL AND sender IS NOT NULL AND webhook_url IS NOT NULL)
    )
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX work_ready ON work (number_id, priority, due_at, recipient_id) WHERE state = 'ready';
CREATE INDEX work_open ON work (due_at) WHERE state IN ('unknown', 'overdue');
CREATE INDEX work_leased ON work (leased_until) WHERE state = 'sending';
CREATE INDEX work_person ON work (church_id, phone_index) WHERE state = 'sending';
CALL pg_temp.protect('work', across => true);

-- Who must not be texted, as compliance says; a later occurred_at wins, an opt-out on a tie.
CREATE TABLE suppressions (
    church_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    suppressed boolean NOT NULL,
    occurred_at timestamptz NOT NULL,
    version integer NOT NULL,
    answered_until timestamptz,  -- the latest text of this person that compliance has answered
    PRIMARY KEY (church_id, phone_index)
);
CALL pg_temp.protect('suppressions', across => true);

-- Inbound texts that look like an opt-out. A settled one stays as a tombstone: its text may be delivered again.
CREATE TABLE holds (
    church_id uuid NOT NULL,
    inbound_event_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    occurred_at timestamptz NOT NULL,
    settled_at timestamptz,
    PRIMARY KEY (church_id, inbound_event_id)
);
CREATE INDEX holds_open ON holds (church_id, phone_index) WHERE settled_at IS NULL;
CREATE INDEX holds_settled ON holds (settled_at) WHERE settled_at IS NOT NULL;
CALL pg_temp.protect('holds', across => true);

-- Which members consent to texts at their phone, as of a version. A family shares one: the consent of one is enough.
CREATE TABLE consents (
    member_id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    version integer NOT NULL,
    phone_index bytea,
    consents boolean NOT NULL  -- a deleted member's row stays, and consents to nothing
);
CREATE INDEX consents_phone ON consents (church_id, phone_index);
CALL pg_temp.protect('consents', across => true);

-- One row: how fresh our knowledge of opt-outs is.
CREATE TABLE freshness (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    marker_sent_at timestamptz NOT NULL DEFAULT '-infinity',  -- of the newest marker that came back
    backlog_reported_at timestamptz NOT NULL DEFAULT '-infinity',
    backlog_oldest_at timestamptz  -- the oldest inbound text that a gateway could not publish yet
);
INSERT INTO freshness DEFAULT VALUES;
CALL pg_temp.share('freshness');

-- Receipts that came before their row; they hold nothing of a person.
CREATE TABLE parked_receipts (
    id uuid PRIMARY KEY,
    recipient_id uuid NOT NULL,
    receipt bytea NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_try_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX parked_receipts_next_try_at ON parked_receipts (next_try_at);
CALL pg_temp.share('parked_receipts');

-- One row: up to which id the scan for overdue receipts has come.
CREATE TABLE overdue_scan (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    scanned_to uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
);
INSERT INTO overdue_scan DEFAULT VALUES;
CALL pg_temp.share('overdue_scan');

-- Work across churches gets what claiming, settling, receipts and holds need, and no more.
DO $$
DECLARE
    across text := 'koinonia_' || current_schema() || '_across';
BEGIN
    EXECUTE format('REVOKE INSERT, DELETE ON recipients, numbers, number_orders FROM %I', across);
    EXECUTE format('REVOKE INSERT, DELETE ON broadcasts FROM %I', across);
    EXECUTE format('REVOKE DELETE ON suppressions FROM %I', across);
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON consents FROM %I', across);
    EXECUTE format('REVOKE INSERT, DELETE ON freshness, overdue_scan FROM %I', across);
END
$$;
