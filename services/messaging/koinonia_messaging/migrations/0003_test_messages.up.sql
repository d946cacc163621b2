-- What was sent with a test key: the simulated carrier answers it, and lists do not mix it with the rest.
ALTER TABLE messages ADD COLUMN test boolean NOT NULL DEFAULT false;
CREATE INDEX messages_tests ON messages (church_id, id) WHERE test;
