DROP TABLE bulk_texts;
ALTER TABLE churches DROP COLUMN weekly_limit;
