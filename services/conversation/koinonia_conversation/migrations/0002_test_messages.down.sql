DELETE FROM conversation_messages WHERE test;
ALTER TABLE conversation_messages DROP COLUMN test;
