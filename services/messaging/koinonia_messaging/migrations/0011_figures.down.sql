DROP TRIGGER suppressions_erased_count ON suppressions;
DROP TRIGGER suppressions_updated_count ON suppressions;
DROP TRIGGER suppressions_inserted_count ON suppressions;
DROP TRIGGER members_erased_count ON members;
DROP TRIGGER members_updated_count ON members;
DROP TRIGGER members_inserted_count ON members;
DROP FUNCTION keep_suppressed, keep_people, count_people, lock_people;
DROP TABLE branch_people, branch_figures, message_branches, day_figures;
ALTER TABLE messages DROP COLUMN day;
