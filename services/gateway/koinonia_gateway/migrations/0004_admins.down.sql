DROP TABLE invitations;
DELETE FROM admins WHERE status <> 'active';
ALTER TABLE admins
    DROP CONSTRAINT admins_login_index_check,
    DROP CONSTRAINT admins_password_hash_check,
    DROP CONSTRAINT admins_email_ciphertext_check,
    ALTER COLUMN login_index SET NOT NULL,
    ALTER COLUMN password_hash SET NOT NULL,
    ALTER COLUMN email_ciphertext SET NOT NULL;
