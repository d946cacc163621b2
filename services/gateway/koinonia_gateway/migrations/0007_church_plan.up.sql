-- A church's plan may raise its limits. Null: none was told of since.
ALTER TABLE churches ADD COLUMN subscription_plan text;
