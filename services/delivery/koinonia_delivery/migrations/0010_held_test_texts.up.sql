-- One that something holds is looked at ever more seldom; what frees it wakes it. Churches take turns.
ALTER TABLE test_work ADD COLUMN held_at timestamptz;  -- since when; NULL: nothing stood in its way when it was looked at
CREATE INDEX test_work_church ON test_work (church_id, due_at);
