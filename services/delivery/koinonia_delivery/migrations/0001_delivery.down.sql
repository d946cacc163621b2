DROP TABLE
    overdue_scan, parked_receipts, freshness, consents, holds, suppressions, work, recipients, broadcasts, number_orders,
    numbers, churches;
CALL pg_temp.drop_infrastructure();
