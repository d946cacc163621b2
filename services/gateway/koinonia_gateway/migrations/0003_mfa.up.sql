ALTER TABLE churches ADD COLUMN require_mfa boolean NOT NULL DEFAULT false;

-- A login whose password was right and whose second factor is awaited: no token opens it, and it ends with the others.
ALTER TABLE sessions ADD COLUMN awaits_mfa boolean NOT NULL DEFAULT false;

-- An admin's authenticator app, from when its secret was shown.
CREATE TABLE totp_factors (
    admin_id uuid PRIMARY KEY REFERENCES admins ON DELETE CASCADE,
    church_id uuid NOT NULL,
    totp_secret_ciphertext bytea NOT NULL,
    confirmed_at timestamptz,  -- until then it is off
    last_step bigint NOT NULL DEFAULT 0,  -- of the last code that was taken; none up to it is taken again
    failures integer NOT NULL DEFAULT 0,  -- wrong codes in a row
    closed_until timestamptz,
    created_at timestamptz NOT NULL
);
CALL pg_temp.protect('totp_factors');

CREATE TABLE recovery_codes (
    admin_id uuid NOT NULL REFERENCES totp_factors ON DELETE CASCADE,
    digest bytea NOT NULL,
    church_id uuid NOT NULL,
    used_at timestamptz,
    PRIMARY KEY (admin_id, digest)
);
CALL pg_temp.protect('recovery_codes');

ALTER TABLE sessions
    DROP CONSTRAINT sessions_end_reason_check,
    ADD CONSTRAINT sessions_end_reason_check CHECK (end_reason IN ('logout', 'replay', 'ended', 'password', 'mfa'));
