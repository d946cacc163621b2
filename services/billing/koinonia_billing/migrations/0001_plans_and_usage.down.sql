DROP TABLE usage_ledger, reservations, subscriptions, plans;
CALL pg_temp.drop_infrastructure();
