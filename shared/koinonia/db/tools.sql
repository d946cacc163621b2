-- What a migration may call: procedures of its own session, made by the runner and gone with it.

CREATE PROCEDURE pg_temp.own(table_name text)
LANGUAGE plpgsql AS $$
-- Row-level security binds the owner too (FORCE), so that it needs a policy, or a backfill would silently touch nothing.
BEGIN
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
    EXECUTE format(
        'CREATE POLICY owner ON %I TO %I USING (true) WITH CHECK (true)',
        table_name, 'koinonia_' || current_schema() || '_owner'
    );
END
$$;

CREATE PROCEDURE pg_temp.protect(table_name text, across boolean DEFAULT false)
LANGUAGE plpgsql AS $$
-- A church's table: the service sees the rows of the church that its transaction names, and nothing without a name.
DECLARE
    service text := 'koinonia_' || current_schema();
    tenant text := $tenant$church_id = nullif(current_setting('koinonia.church_id', true), '')::uuid$tenant$;
BEGIN
    CALL pg_temp.own(table_name);
    EXECUTE format('CREATE POLICY tenant ON %I TO %I USING (%s) WITH CHECK (%s)', table_name, service, tenant, tenant);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO %I', table_name, service);
    IF across THEN
        EXECUTE format(
            'CREATE POLICY across ON %I TO %I USING (true) WITH CHECK (true)', table_name, service || '_across'
        );
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO %I', table_name, service || '_across');
    END IF;
END
$$;

CREATE PROCEDURE pg_temp.share(table_name text)
LANGUAGE plpgsql AS $$
-- A table that holds nothing of any church.
BEGIN
    EXECUTE format(
        'GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO %I, %I',
        table_name, 'koinonia_' || current_schema(), 'koinonia_' || current_schema() || '_across'
    );
END
$$;

CREATE PROCEDURE pg_temp.create_infrastructure()
LANGUAGE plpgsql AS $$
-- What each service needs to take part: events out, events in, events that wait, answers given again.
BEGIN
    CREATE TABLE outbox (
        id uuid PRIMARY KEY,
        church_id uuid,
        type text NOT NULL,
        body bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
    CALL pg_temp.protect('outbox', across => true);

    CREATE TABLE inbox (
        queue text NOT NULL,
        event_id uuid NOT NULL,
        received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (queue, event_id)
    );
    CREATE INDEX inbox_received_at ON inbox (received_at);
    CALL pg_temp.share('inbox');

    CREATE TABLE parked (
        queue text NOT NULL,
        event_id uuid NOT NULL,
        fact_key text NOT NULL,
        church_id uuid,
        body bytea NOT NULL,
        parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (queue, event_id)
    );
    CREATE INDEX parked_fact_key ON parked (fact_key);
    CALL pg_temp.protect('parked', across => true);

    CREATE TABLE idempotency_keys (
        church_id uuid NOT NULL,
        principal_id uuid NOT NULL,
        path text NOT NULL,
        key text NOT NULL,
        body_hash bytea NOT NULL,
        status smallint NOT NULL,
        result_id uuid,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (church_id, principal_id, path, key)
    );
    CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);
    CALL pg_temp.protect('idempotency_keys', across => true);
END
$$;

CREATE PROCEDURE pg_temp.drop_infrastructure()
LANGUAGE sql AS $$
    DROP TABLE outbox, inbox, parked, idempotency_keys;
$$;
