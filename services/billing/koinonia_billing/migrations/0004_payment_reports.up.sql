-- What Stripe has told, in the order in which it came here: ids alone, of which Stripe is asked what they stand for.
CREATE TABLE payment_reports (
    stripe_event_id text PRIMARY KEY,
    stripe_type text NOT NULL,
    object_id text NOT NULL,
    customer_id text,
    occurred_at timestamptz NOT NULL,
    live boolean NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CALL pg_temp.share('payment_reports');
