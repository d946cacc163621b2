DROP TABLE audit_log, automatic_replies, consents, opt_outs, own_numbers, churches;
CALL pg_temp.drop_infrastructure();
