DROP TABLE branches, numbers, api_keys, refresh_tokens, sessions, admins, churches;
CALL pg_temp.drop_infrastructure();
