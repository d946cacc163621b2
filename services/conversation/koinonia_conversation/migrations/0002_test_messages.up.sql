-- Replies that were written with a test key: the simulated carrier answers them, and who answers for real sees none.
ALTER TABLE conversation_messages ADD COLUMN test boolean NOT NULL DEFAULT false;
