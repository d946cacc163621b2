-- The phone that an admin has confirmed, to try drafts on.
CREATE TABLE own_phones (
    admin_id uuid PRIMARY KEY REFERENCES admins ON DELETE CASCADE,
    church_id uuid NOT NULL,
    phone_ciphertext bytea NOT NULL,
    phone_index bytea NOT NULL,
    confirmed_at timestamptz NOT NULL
);
CALL pg_temp.protect('own_phones');

-- The code that was texted last to each admin, and how many were in the hour that began then. Used up or withdrawn, the
-- row stays for its count, without the phone.
CREATE TABLE phone_codes (
    admin_id uuid PRIMARY KEY REFERENCES admins ON DELETE CASCADE,
    church_id uuid NOT NULL,
    phone_ciphertext bytea,
    phone_index bytea,
    code_signature bytea,
    expires_at timestamptz NOT NULL,
    failures integer NOT NULL DEFAULT 0,  -- wrong tries of this code
    counted_since timestamptz NOT NULL,
    codes integer NOT NULL,  -- since then
    CHECK (num_nulls(phone_ciphertext, phone_index, code_signature) IN (0, 3))
);
CREATE INDEX phone_codes_expires_at ON phone_codes (expires_at);
CALL pg_temp.protect('phone_codes', across => true);
