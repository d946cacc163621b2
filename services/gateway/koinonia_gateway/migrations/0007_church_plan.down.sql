ALTER TABLE churches DROP COLUMN subscription_plan;
