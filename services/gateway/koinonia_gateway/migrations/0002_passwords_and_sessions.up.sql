-- Goes up with each new password, not with a new hash of the same one.
ALTER TABLE admins ADD COLUMN password_version integer NOT NULL DEFAULT 1;

-- What was mailed to people who forgot their passwords. A token is for one password: with the next, all are dead.
CREATE TABLE password_resets (
    digest bytea PRIMARY KEY,
    church_id uuid NOT NULL,
    admin_id uuid NOT NULL REFERENCES admins ON DELETE CASCADE,
    password_version integer NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX password_resets_admin_id ON password_resets (admin_id);
CREATE INDEX password_resets_expires_at ON password_resets (expires_at);
CALL pg_temp.protect('password_resets', across => true);

ALTER TABLE sessions
    DROP CONSTRAINT sessions_end_reason_check,
    ADD CONSTRAINT sessions_end_reason_check CHECK (end_reason IN ('logout', 'replay', 'ended', 'password'));
