DROP TABLE deleted_groups;
