DROP TABLE messages;
DROP TABLE imports;
DROP TABLE opt_outs;
DROP TABLE group_members;
DROP TABLE members;
DROP TABLE groups;
DROP TABLE branches;
DROP TABLE suppressions;
DROP TABLE numbers;
DROP TABLE churches;

CALL pg_temp.drop_infrastructure();
