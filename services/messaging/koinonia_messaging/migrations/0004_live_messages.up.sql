-- A page of live messages reads no tests, however many lie between; messages_tests has the rest.
CREATE INDEX messages_live ON messages (church_id, id) WHERE NOT test;
DROP INDEX messages_page;
