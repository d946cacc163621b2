-- E-mails: one row each, from the wish to some days after its end. An open one may be claimed from due_at on.
--   queued: waits. sending: a worker holds it until due_at; whoever claims it then does not know whether it went.
--   sent: the server has it. expired: nobody took it in time. failed: refused for good, or too often; it stays readable.
CREATE TABLE emails (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    template text NOT NULL,
    email_ciphertext bytea,  -- gone, as the fields are, once it is sent or expired
    fields_ciphertext bytea,
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'sending', 'sent', 'expired', 'failed')),
    attempt integer NOT NULL DEFAULT 0,
    refusals integer NOT NULL DEFAULT 0,  -- attempts that count: refused for now, or of unknown outcome
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    settled_at timestamptz,
    error_code text,
    CONSTRAINT settled CHECK ((settled_at IS NULL) = (status IN ('queued', 'sending'))),
    CONSTRAINT forgotten CHECK ((email_ciphertext IS NULL) = (status IN ('sent', 'expired'))),
    CONSTRAINT whole CHECK ((email_ciphertext IS NULL) = (fields_ciphertext IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX emails_due ON emails (due_at) WHERE settled_at IS NULL;
CREATE INDEX emails_settled ON emails (settled_at) WHERE settled_at IS NOT NULL;
CREATE INDEX emails_failed ON emails (created_at) WHERE status = 'failed';
CALL pg_temp.protect('emails', across => true);

-- Nobody but the church's own transaction asks for one.
DO $$
BEGIN
    EXECUTE format('REVOKE INSERT ON emails FROM %I', 'koinonia_' || current_schema() || '_across');
END
$$;
