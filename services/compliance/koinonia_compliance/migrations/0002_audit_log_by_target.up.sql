-- What was done to one thing, in the order of time: who asked for a message, who took it back.
CREATE INDEX audit_log_target ON audit_log (target_id, id) WHERE target_id IS NOT NULL;
