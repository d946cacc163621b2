CALL pg_temp.create_infrastructure();

-- Since when inbound texts wait is asked every few seconds, however much else waits.
CREATE INDEX outbox_inbound_created_at ON outbox (created_at) WHERE type = 'carrier.message.received';

-- One row per church; what the gateway has heard of its subscription stands beside it.
CREATE TABLE churches (
    church_id uuid PRIMARY KEY,
    name text NOT NULL,
    timezone text NOT NULL,
    region text NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'suspended', 'erased')),
    version integer NOT NULL,
    subscription_status text,
    subscription_version integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CALL pg_temp.protect('churches', across => true);

CREATE TABLE admins (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL REFERENCES churches,
    first_name text NOT NULL,
    last_name text NOT NULL,
    email_ciphertext bytea NOT NULL,
    login_index bytea NOT NULL UNIQUE,  -- over all churches: it finds the account before its church is known
    password_hash text NOT NULL,
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'sender', 'viewer')),
    status text NOT NULL CHECK (status IN ('invited', 'active', 'removed')),
    version integer NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX admins_church_id ON admins (church_id, id);
CALL pg_temp.protect('admins', across => true);

-- A login: the family of the refresh tokens that followed one another.
CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL REFERENCES churches,
    admin_id uuid NOT NULL REFERENCES admins,
    mfa_verified boolean NOT NULL DEFAULT false,
    user_agent text NOT NULL,
    address text NOT NULL,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    end_reason text CHECK (end_reason IN ('logout', 'replay')),
    CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);
CREATE INDEX sessions_admin_id ON sessions (admin_id, id);
CREATE INDEX sessions_expires_at ON sessions (expires_at);
CALL pg_temp.protect('sessions', across => true);

-- Every token of a family stays as long as the family: a replaced one that is shown again is a replay.
CREATE TABLE refresh_tokens (
    digest bytea PRIMARY KEY,
    church_id uuid NOT NULL,
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    replaced_at timestamptz
);
CREATE INDEX refresh_tokens_session_id ON refresh_tokens (session_id);
CALL pg_temp.protect('refresh_tokens', across => true);

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL REFERENCES churches,
    public_id text NOT NULL UNIQUE,
    secret_digest bytea NOT NULL,
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('admin', 'sender', 'viewer')),
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX api_keys_church_id ON api_keys (church_id, id) WHERE revoked_at IS NULL;
CALL pg_temp.protect('api_keys', across => true);

-- What delivery says about numbers: whose an inbound text is.
CREATE TABLE numbers (
    number_id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    phone text NOT NULL,
    status text NOT NULL,
    version integer NOT NULL
);
CREATE INDEX numbers_phone ON numbers (phone, number_id);
CREATE INDEX numbers_church_id ON numbers (church_id);
CALL pg_temp.protect('numbers', across => true);

-- What messaging says about branches: whether the church has its default one.
CREATE TABLE branches (
    branch_id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    is_default boolean NOT NULL,
    version integer NOT NULL
);
CREATE INDEX branches_church_id ON branches (church_id);
CALL pg_temp.protect('branches');
