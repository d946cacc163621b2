-- Whose key it is: the admin who made it, or rotated it last. Unknown of what was made before.
ALTER TABLE api_keys ADD COLUMN created_by uuid;
