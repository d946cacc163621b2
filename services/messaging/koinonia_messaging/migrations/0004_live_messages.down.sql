CREATE INDEX messages_page ON messages (church_id, id);
DROP INDEX messages_live;
