-- Keys of two kinds. What a test key sends goes to the simulated carrier; what was made before is live.
ALTER TABLE api_keys
    ADD COLUMN kind text NOT NULL DEFAULT 'live',
    ADD COLUMN successor_id uuid,  -- the key that took its place; until expires_at both open
    ADD CONSTRAINT api_keys_kind CHECK (kind IN ('live', 'test')),
    ADD CONSTRAINT succeeded CHECK (successor_id IS NULL OR expires_at IS NOT NULL);
