UPDATE sessions SET end_reason = 'logout' WHERE end_reason IN ('ended', 'password');
ALTER TABLE sessions
    DROP CONSTRAINT sessions_end_reason_check,
    ADD CONSTRAINT sessions_end_reason_check CHECK (end_reason IN ('logout', 'replay'));
DROP TABLE password_resets;
ALTER TABLE admins DROP COLUMN password_version;
