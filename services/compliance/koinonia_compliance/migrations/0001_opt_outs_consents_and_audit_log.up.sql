CALL pg_temp.create_infrastructure();

-- The church's name, for what its people are answered.
CREATE TABLE churches (
    church_id uuid PRIMARY KEY,
    version integer NOT NULL,
    name text NOT NULL
);
CALL pg_temp.protect('churches');

-- The numbers of the whole platform by the platform's blind index: none of them is ever answered by itself.
CREATE TABLE own_numbers (
    number_id uuid PRIMARY KEY,
    version integer NOT NULL,
    phone_index bytea NOT NULL,
    is_ours boolean NOT NULL  -- false: given back, it may be anybody's
);
CREATE INDEX own_numbers_phone_index ON own_numbers (phone_index);
CALL pg_temp.share('own_numbers');

-- What a person last said by text, per number; the later one holds, an opt-out on a tie.
CREATE TABLE opt_outs (
    church_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    phone_ciphertext bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('opted_out', 'opted_in')),
    occurred_at timestamptz NOT NULL,  -- of the text that holds, as dated by the carrier
    inbound_event_id uuid NOT NULL,  -- the text that holds
    version integer NOT NULL,  -- how many texts have been judged
    PRIMARY KEY (church_id, phone_index)
) WITH (fillfactor = 90);
CALL pg_temp.protect('opt_outs');

-- The proof of each consent given or withdrawn; a row is never changed. Its id is that of the event that says so.
CREATE TABLE consents (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('sms')),
    granted boolean NOT NULL,
    source text NOT NULL CHECK (source IN ('text')),
    number_id uuid NOT NULL,  -- the church's number that was texted
    carrier_id text NOT NULL,  -- under which the carrier has the text on record
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX consents_phone_index ON consents (church_id, phone_index, occurred_at);
CALL pg_temp.protect('consents');

-- How many texts went out by themselves to a number within its hour: two machines must not answer each other for ever.
CREATE TABLE automatic_replies (
    church_id uuid NOT NULL,
    phone_index bytea NOT NULL,
    hour_began_at timestamptz NOT NULL,
    replies integer NOT NULL CHECK (replies > 0),
    PRIMARY KEY (church_id, phone_index)
) WITH (fillfactor = 90);
CALL pg_temp.protect('automatic_replies');

-- Who did what, when, from where: a row per audit event, whose id it has. Of no church, it is visible to none.
CREATE TABLE audit_log (
    id uuid PRIMARY KEY,
    church_id uuid,
    service text NOT NULL,
    action text NOT NULL,
    actor_kind text NOT NULL,
    actor_id uuid,
    outcome text NOT NULL CHECK (outcome IN ('success', 'failure')),
    target_kind text,
    target_id uuid,
    address text,
    request_id text,
    details jsonb NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY RANGE (id);
CREATE INDEX audit_log_church_id ON audit_log (church_id, id);
CALL pg_temp.protect('audit_log', across => true);

-- What is proof is added to and read; the service itself cannot alter it.
DO $$
DECLARE
    service text := 'koinonia_' || current_schema();
BEGIN
    EXECUTE format('REVOKE UPDATE, DELETE ON consents FROM %I', service);
    EXECUTE format('REVOKE INSERT, UPDATE, DELETE ON audit_log FROM %I', service);
    EXECUTE format('REVOKE UPDATE, DELETE ON audit_log FROM %I', service || '_across');
END
$$;
