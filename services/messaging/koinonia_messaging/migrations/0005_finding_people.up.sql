-- Members are found by the beginnings of their names' words, sorted by name, restored, and merged.

-- The one rule of how names are compared: without accents, a space between words, no other signs in them. Takes what is
-- casefolded already. A range of signs rather than a class: classes depend on the database's locale.
CREATE FUNCTION folded(name text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN name ~ '^[a-z ]*$' THEN name  -- most are, and need none of what follows
        ELSE btrim(regexp_replace(
            regexp_replace(
                replace(replace(translate(normalize(name, NFKD), 'øłđħıð', 'oldhid'), 'æ', 'ae'), 'œ', 'oe'),
                '[\u0300-\u036f''’ʼ`]', '', 'g'
            ),
            '[\u0001-\u002f:-@\u005b-\u0060{-\u00bf\u2000-\u206f\u3000-\u303f]+', ' ', 'g'
        ))
    END
$$;
REVOKE ALL ON FUNCTION folded FROM PUBLIC;
GRANT EXECUTE ON FUNCTION folded TO koinonia_messaging;

ALTER TABLE members
    ADD COLUMN name_words text COLLATE "C" NOT NULL GENERATED ALWAYS AS (folded(name_key)) STORED,
    ADD COLUMN left_groups uuid[] NOT NULL DEFAULT '{}',  -- of a deleted one: the groups to come back to
    ADD COLUMN merged_into uuid REFERENCES members (id),  -- the record that stands for this one
    ADD CONSTRAINT merged_are_deleted CHECK (merged_into IS NULL OR deleted_at IS NOT NULL);
CREATE INDEX members_name ON members (church_id, name_words, id) WHERE deleted_at IS NULL;
CREATE INDEX members_email_index ON members (church_id, email_index)
    WHERE email_index IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX members_branch_page ON members (branch_id, id) WHERE deleted_at IS NULL;
DROP INDEX members_branch_id;
CREATE INDEX members_deleted ON members (church_id, id) WHERE deleted_at IS NOT NULL AND merged_into IS NULL;
CREATE INDEX members_merged_into ON members (merged_into) WHERE merged_into IS NOT NULL;
-- A file names them still.
CREATE INDEX members_merged_external_id ON members (church_id, external_id)
    WHERE external_id IS NOT NULL AND merged_into IS NOT NULL;
CREATE INDEX members_merged_phone_index ON members (church_id, phone_index) WHERE merged_into IS NOT NULL;

-- Each word of each member's name. A beginning is a range of a btree, whose operators are leakproof: that is used under
-- row-level security, where a full-text index is not.
CREATE TABLE member_words (
    church_id uuid NOT NULL,
    word text COLLATE "C" NOT NULL,
    member_id uuid NOT NULL,
    PRIMARY KEY (church_id, word, member_id)
);
CALL pg_temp.protect('member_words');
INSERT INTO member_words (church_id, word, member_id)
SELECT DISTINCT church_id, word, id FROM members CROSS JOIN string_to_table(name_words, ' ') AS word WHERE word <> '';

-- Whoever writes members keeps their words in the same transaction: no statement can forget it, one per batch is enough.
CREATE FUNCTION keep_words() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        -- The two tables are never joined: a session keeps the plan of its first update, which may be of one row.
        DELETE FROM member_words
        USING (
            SELECT church_id, word, id FROM before CROSS JOIN string_to_table(name_words, ' ') AS word
            EXCEPT
            SELECT church_id, word, id FROM after CROSS JOIN string_to_table(name_words, ' ') AS word
        ) AS gone
        WHERE member_words.church_id = gone.church_id
            AND member_words.word = gone.word
            AND member_words.member_id = gone.id;
        INSERT INTO member_words (church_id, word, member_id)
        SELECT church_id, word, id FROM after CROSS JOIN string_to_table(name_words, ' ') AS word WHERE word <> ''
        EXCEPT
        SELECT church_id, word, id FROM before CROSS JOIN string_to_table(name_words, ' ') AS word
        ON CONFLICT DO NOTHING;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO member_words (church_id, word, member_id)
        SELECT DISTINCT church_id, word, id
        FROM after CROSS JOIN string_to_table(name_words, ' ') AS word
        WHERE word <> '';
    ELSE
        DELETE FROM member_words
        USING before CROSS JOIN string_to_table(before.name_words, ' ') AS gone
        WHERE member_words.church_id = before.church_id
            AND member_words.word = gone
            AND member_words.member_id = before.id;
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION keep_words FROM PUBLIC;
CREATE TRIGGER members_inserted AFTER INSERT ON members
    REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION keep_words();
CREATE TRIGGER members_updated AFTER UPDATE ON members
    REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION keep_words();
CREATE TRIGGER members_erased AFTER DELETE ON members
    REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION keep_words();
