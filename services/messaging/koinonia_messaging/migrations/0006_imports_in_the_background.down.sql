-- What was under way is not gone on with: what it wrote stays, and its file is forgotten.
DROP TABLE import_errors;
DROP TABLE import_pieces;
DELETE FROM imports WHERE status = 'receiving';
DROP POLICY across ON imports;
REVOKE ALL ON imports FROM koinonia_messaging_across;
ALTER TABLE imports
    DROP COLUMN status,
    DROP COLUMN row_count,
    DROP COLUMN done_rows,
    DROP COLUMN bad_rows,
    DROP COLUMN group_ids,
    DROP COLUMN correlation_id,
    DROP COLUMN traceparent,
    DROP COLUMN leased_until,
    DROP COLUMN attempt;
