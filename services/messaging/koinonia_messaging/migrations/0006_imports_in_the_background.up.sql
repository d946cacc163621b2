-- Imports that go on after their request: what is still to be done, how far they are, and the rows that did not go in.

ALTER TABLE imports
    ADD COLUMN status text NOT NULL DEFAULT 'completed'
        CHECK (status IN ('receiving', 'running', 'completed', 'failed')),
    ADD COLUMN row_count integer NOT NULL DEFAULT 0,
    ADD COLUMN done_rows integer NOT NULL DEFAULT 0,
    ADD COLUMN bad_rows integer NOT NULL DEFAULT 0,
    ADD COLUMN group_ids uuid[] NOT NULL DEFAULT '{}',  -- that every row joins
    ADD COLUMN correlation_id text,  -- of the request, for the logs and traces of all that follows
    ADD COLUMN traceparent text,
    ADD COLUMN leased_until timestamptz NOT NULL DEFAULT '-infinity',
    ADD COLUMN attempt integer NOT NULL DEFAULT 0;  -- at the piece that is next; 0 again once that is done
CREATE INDEX imports_running ON imports (leased_until) WHERE status = 'running';
CREATE INDEX imports_receiving ON imports (created_at) WHERE status = 'receiving';

UPDATE imports SET bad_rows = (SELECT count(DISTINCT error ->> 'row') FROM jsonb_array_elements(errors) AS error);
UPDATE imports SET row_count = created + updated + skipped + bad_rows, done_rows = created + updated + skipped + bad_rows;

-- The loops claim across churches, as they do messages.
CREATE POLICY across ON imports TO koinonia_messaging_across USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON imports TO koinonia_messaging_across;

-- The rows of a file, some hundred in each. A piece is deleted in the transaction that writes its rows as members.
CREATE TABLE import_pieces (
    import_id uuid NOT NULL REFERENCES imports (id) ON DELETE CASCADE,
    place integer NOT NULL,
    church_id uuid NOT NULL,
    rows_ciphertext bytea NOT NULL,
    PRIMARY KEY (import_id, place)
);
ALTER TABLE import_pieces ALTER COLUMN rows_ciphertext SET STORAGE EXTERNAL;  -- it was compressed before it was encrypted
CALL pg_temp.protect('import_pieces');

-- Errors name rows and fields, never what stood in them.
CREATE TABLE import_errors (
    import_id uuid NOT NULL REFERENCES imports (id) ON DELETE CASCADE,
    row_number integer NOT NULL,
    place integer NOT NULL,  -- among those of the row
    church_id uuid NOT NULL,
    line integer,
    field text NOT NULL,
    message text NOT NULL,
    PRIMARY KEY (import_id, row_number, place)
);
CALL pg_temp.protect('import_errors');
