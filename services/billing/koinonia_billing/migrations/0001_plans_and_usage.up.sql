CALL pg_temp.create_infrastructure();

CREATE TABLE plans (
    code text PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    name text NOT NULL,
    price_cents integer NOT NULL CHECK (price_cents >= 0),
    overage_cents integer CHECK (overage_cents > 0),  -- per segment beyond the included; null: none goes beyond
    currency text NOT NULL DEFAULT 'USD',
    included_segments integer NOT NULL CHECK (included_segments >= 0)
);
CALL pg_temp.share('plans');

INSERT INTO plans (code, id, name, price_cents, overage_cents, included_segments)
VALUES
    ('trial', '01a20000-0000-7000-8000-000000000001', 'Trial', 0, NULL, 5000),
    ('starter', '01a20000-0000-7000-8000-000000000002', 'Starter', 2900, 2, 2500),
    ('growth', '01a20000-0000-7000-8000-000000000003', 'Growth', 9900, 2, 10000);

-- One row per church, with what it has used and reserved in this period kept beside it.
CREATE TABLE subscriptions (
    church_id uuid PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    version integer NOT NULL,
    plan_code text NOT NULL REFERENCES plans,
    status text NOT NULL CHECK (status IN ('trialing', 'active', 'past_due', 'canceled')),
    church_status text NOT NULL,
    church_version integer NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL CHECK (period_end > period_start),
    included_segments integer NOT NULL CHECK (included_segments >= 0),
    used_segments integer NOT NULL DEFAULT 0 CHECK (used_segments >= 0),
    reserved_segments integer NOT NULL DEFAULT 0 CHECK (reserved_segments >= 0),
    created_at timestamptz NOT NULL
) WITH (fillfactor = 80);
CALL pg_temp.protect('subscriptions', across => true);

-- One row per broadcast; it stays when settled, so that a question that comes late finds the answer.
CREATE TABLE reservations (
    message_id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    version integer NOT NULL,
    status text NOT NULL CHECK (status IN ('expected', 'reserved', 'declined', 'settled')),
    segment_bound integer NOT NULL CHECK (segment_bound >= 0),
    used_segments integer NOT NULL DEFAULT 0 CHECK (used_segments >= 0),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 80);
CREATE INDEX reservations_church_id ON reservations (church_id, message_id);
CALL pg_temp.protect('reservations', across => true);

-- A line per batch of accepted texts; its id is the event's, so that no event is metered twice.
CREATE TABLE usage_ledger (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    source_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('broadcast', 'reply', 'compliance')),
    recipients integer NOT NULL CHECK (recipients > 0),
    segments integer NOT NULL CHECK (segments > 0),
    recorded_at timestamptz NOT NULL
) PARTITION BY RANGE (id);
CREATE INDEX usage_ledger_church_id ON usage_ledger (church_id, id);
CALL pg_temp.protect('usage_ledger', across => true);
