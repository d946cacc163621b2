DROP TABLE conversation_messages, conversations, numbers, contacts;
CALL pg_temp.drop_infrastructure();
