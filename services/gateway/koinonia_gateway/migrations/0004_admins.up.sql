-- Only who is active has a login; who was removed keeps the name alone, for what was done under it.
ALTER TABLE admins
    ALTER COLUMN login_index DROP NOT NULL,
    ALTER COLUMN password_hash DROP NOT NULL,
    ALTER COLUMN email_ciphertext DROP NOT NULL,
    ADD CONSTRAINT admins_login_index_check CHECK ((status = 'active') = (login_index IS NOT NULL)),
    ADD CONSTRAINT admins_password_hash_check CHECK ((status = 'active') = (password_hash IS NOT NULL)),
    ADD CONSTRAINT admins_email_ciphertext_check CHECK ((status = 'removed') = (email_ciphertext IS NULL));

-- What waits to be accepted; the row goes when it was. It takes no e-mail from whoever logs in with it elsewhere.
CREATE TABLE invitations (
    admin_id uuid PRIMARY KEY REFERENCES admins,
    church_id uuid NOT NULL REFERENCES churches,
    digest bytea NOT NULL UNIQUE,
    login_index bytea NOT NULL,  -- becomes the admin's
    expires_at timestamptz NOT NULL,
    UNIQUE (church_id, login_index)
);
CALL pg_temp.protect('invitations', across => true);
