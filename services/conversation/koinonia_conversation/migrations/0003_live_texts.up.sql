-- A page without test replies reads none, however many lie between.
CREATE INDEX conversation_messages_live ON conversation_messages (conversation_id, id) WHERE NOT test;
