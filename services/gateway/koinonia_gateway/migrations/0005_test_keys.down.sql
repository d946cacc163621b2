-- Code that knows no kinds would take a test key for a live one.
DELETE FROM api_keys WHERE kind = 'test';
ALTER TABLE api_keys DROP COLUMN successor_id, DROP COLUMN kind;
