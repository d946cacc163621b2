DROP TABLE recovery_codes, totp_factors;
DELETE FROM sessions WHERE awaits_mfa;
UPDATE sessions SET end_reason = 'ended' WHERE end_reason = 'mfa';
ALTER TABLE sessions
    DROP COLUMN awaits_mfa,
    DROP CONSTRAINT sessions_end_reason_check,
    ADD CONSTRAINT sessions_end_reason_check CHECK (end_reason IN ('logout', 'replay', 'ended', 'password'));
ALTER TABLE churches DROP COLUMN require_mfa;
