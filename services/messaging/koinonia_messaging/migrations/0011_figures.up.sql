-- The figures that people look at, kept with what they count and never counted when they are read.

-- Who writes people meanwhile is waited for, and waits: what came between the count and the triggers would be in
-- neither.
LOCK TABLE members, suppressions IN SHARE ROW EXCLUSIVE MODE;

-- The church's day on which the message began to be sent: its texts are that day's, whenever they arrive.
ALTER TABLE messages ADD COLUMN day date;
UPDATE messages
SET day = (dispatched_at AT TIME ZONE coalesce(
    (
        SELECT pg_timezone_names.name
        FROM churches
        JOIN pg_timezone_names ON pg_timezone_names.name = churches.timezone
        WHERE churches.church_id = messages.church_id
    ),
    'UTC'
))::date
WHERE dispatched_at IS NOT NULL;

-- What became of a day's texts, tests left out. Differences come in any order, as in messages.
CREATE TABLE day_figures (
    church_id uuid NOT NULL,
    day date NOT NULL,
    messages integer NOT NULL DEFAULT 0,
    queued integer NOT NULL DEFAULT 0,
    sending integer NOT NULL DEFAULT 0,
    sent integer NOT NULL DEFAULT 0,
    unknown integer NOT NULL DEFAULT 0,
    delivered integer NOT NULL DEFAULT 0,
    undelivered integer NOT NULL DEFAULT 0,
    unconfirmed integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    suppressed integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    expired integer NOT NULL DEFAULT 0,
    PRIMARY KEY (church_id, day)
) WITH (fillfactor = 70);
CALL pg_temp.protect('day_figures', across => true);
INSERT INTO day_figures
SELECT
    church_id, day, count(*), sum(queued), sum(sending), sum(sent), sum(unknown), sum(delivered), sum(undelivered),
    sum(unconfirmed), sum(failed), sum(suppressed), sum(cancelled), sum(expired)
FROM messages
WHERE day IS NOT NULL AND NOT test
GROUP BY church_id, day;

-- A message's recipients by branch and status, and their sums over all messages. What was stored before has no branch.
CREATE TABLE message_branches (
    message_id uuid NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    branch_id uuid NOT NULL,  -- also one that is gone by now
    church_id uuid NOT NULL,
    queued integer NOT NULL DEFAULT 0,
    sending integer NOT NULL DEFAULT 0,
    sent integer NOT NULL DEFAULT 0,
    unknown integer NOT NULL DEFAULT 0,
    delivered integer NOT NULL DEFAULT 0,
    undelivered integer NOT NULL DEFAULT 0,
    unconfirmed integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    suppressed integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    expired integer NOT NULL DEFAULT 0,
    PRIMARY KEY (message_id, branch_id)
) WITH (fillfactor = 70);
CREATE INDEX message_branches_church_id ON message_branches (church_id);
CALL pg_temp.protect('message_branches', across => true);

CREATE TABLE branch_figures (
    church_id uuid NOT NULL,
    branch_id uuid NOT NULL,
    messages integer NOT NULL DEFAULT 0,
    queued integer NOT NULL DEFAULT 0,
    sending integer NOT NULL DEFAULT 0,
    sent integer NOT NULL DEFAULT 0,
    unknown integer NOT NULL DEFAULT 0,
    delivered integer NOT NULL DEFAULT 0,
    undelivered integer NOT NULL DEFAULT 0,
    unconfirmed integer NOT NULL DEFAULT 0,
    failed integer NOT NULL DEFAULT 0,
    suppressed integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    expired integer NOT NULL DEFAULT 0,
    PRIMARY KEY (church_id, branch_id)
) WITH (fillfactor = 70);
CALL pg_temp.protect('branch_figures', across => true);

-- Members of a branch, and those of them who may be texted: apart from the texts' figures, so that an import and a
-- broadcast never wait for one row. A branch without members may have no row.
CREATE TABLE branch_people (
    church_id uuid NOT NULL,
    branch_id uuid NOT NULL,
    members integer NOT NULL DEFAULT 0,
    opted_in integer NOT NULL DEFAULT 0,
    PRIMARY KEY (church_id, branch_id)
) WITH (fillfactor = 70);
CALL pg_temp.protect('branch_people');
INSERT INTO branch_people (church_id, branch_id, members, opted_in)
SELECT
    members.church_id, branch_id, count(*),
    count(*) FILTER (WHERE opted_in AND suppressed IS NOT TRUE)
FROM members
LEFT JOIN suppressions
    ON suppressions.church_id = members.church_id AND suppressions.phone_index = members.phone_index
WHERE deleted_at IS NULL
GROUP BY members.church_id, branch_id;

-- Whoever writes members or suppressions keeps the counts in the same transaction. Who may be texted depends on both: the
-- second of two writers waits for the first, and sees what it wrote, since each statement here has a snapshot of its own.
CREATE FUNCTION lock_people(churches uuid[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('people ' || church_id, 0))
    FROM (SELECT DISTINCT unnest(churches) AS church_id ORDER BY church_id) AS church;
END
$$;

CREATE FUNCTION count_people(churches uuid[], branches uuid[], phones bytea[], consents boolean[], signs integer[])
RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM lock_people(churches);
    INSERT INTO branch_people AS known (church_id, branch_id, members, opted_in)
    SELECT
        member.church_id, member.branch_id, sum(member.sign),
        coalesce(sum(member.sign) FILTER (WHERE member.consents AND suppressed IS NOT TRUE), 0)
    FROM unnest(churches, branches, phones, consents, signs)
        AS member (church_id, branch_id, phone_index, consents, sign)
    LEFT JOIN suppressions
        ON suppressions.church_id = member.church_id AND suppressions.phone_index = member.phone_index
    GROUP BY member.church_id, member.branch_id
    ORDER BY member.church_id, member.branch_id
    ON CONFLICT (church_id, branch_id) DO UPDATE
    SET members = known.members + excluded.members, opted_in = known.opted_in + excluded.opted_in;
END
$$;

CREATE FUNCTION keep_people() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    changed record;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT
            array_agg(church_id) AS churches, array_agg(branch_id) AS branches, array_agg(phone_index) AS phones,
            array_agg(opted_in) AS consents, array_agg(1) AS signs
        INTO changed
        FROM after
        WHERE deleted_at IS NULL;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT
            array_agg(church_id) AS churches, array_agg(branch_id) AS branches, array_agg(phone_index) AS phones,
            array_agg(opted_in) AS consents, array_agg(-1) AS signs
        INTO changed
        FROM before
        WHERE deleted_at IS NULL;
    ELSE
        -- Both sides summed, never joined: the plan is made for a session's first change, of one row, and kept for
        -- one of thousands. What has stayed comes to nothing.
        SELECT
            array_agg(church_id) AS churches, array_agg(branch_id) AS branches, array_agg(phone_index) AS phones,
            array_agg(opted_in) AS consents, array_agg(sign) AS signs
        INTO changed
        FROM (
            SELECT church_id, branch_id, phone_index, opted_in, sum(side.sign)::integer AS sign
            FROM (
                SELECT church_id, branch_id, phone_index, opted_in, -1 AS sign FROM before WHERE deleted_at IS NULL
                UNION ALL
                SELECT church_id, branch_id, phone_index, opted_in, 1 FROM after WHERE deleted_at IS NULL
            ) AS side
            GROUP BY church_id, branch_id, phone_index, opted_in
            HAVING sum(side.sign) <> 0
        ) AS sides;
    END IF;
    IF changed.churches IS NOT NULL THEN
        PERFORM count_people(changed.churches, changed.branches, changed.phones, changed.consents, changed.signs);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER members_inserted_count AFTER INSERT ON members
    REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION keep_people();
CREATE TRIGGER members_updated_count AFTER UPDATE ON members
    REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION keep_people();
CREATE TRIGGER members_erased_count AFTER DELETE ON members
    REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION keep_people();

CREATE FUNCTION keep_suppressed() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    changed record;
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(church_id) AS churches, array_agg(phone_index) AS phones, array_agg(-1) AS signs
        INTO changed
        FROM after
        WHERE suppressed;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(church_id) AS churches, array_agg(phone_index) AS phones, array_agg(1) AS signs
        INTO changed
        FROM before
        WHERE suppressed;
    ELSE
        SELECT array_agg(church_id) AS churches, array_agg(phone_index) AS phones, array_agg(sign) AS signs
        INTO changed
        FROM (
            SELECT church_id, phone_index, sum(side.sign)::integer AS sign
            FROM (
                SELECT church_id, phone_index, 1 AS sign FROM before WHERE suppressed
                UNION ALL
                SELECT church_id, phone_index, -1 FROM after WHERE suppressed
            ) AS side
            GROUP BY church_id, phone_index
            HAVING sum(side.sign) <> 0
        ) AS moved;
    END IF;
    IF changed.churches IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM lock_people(changed.churches);
    INSERT INTO branch_people AS known (church_id, branch_id, opted_in)
    SELECT members.church_id, members.branch_id, sum(sign)
    FROM unnest(changed.churches, changed.phones, changed.signs) AS number (church_id, phone_index, sign)
    JOIN members ON members.church_id = number.church_id AND members.phone_index = number.phone_index
    WHERE members.deleted_at IS NULL AND members.opted_in
    GROUP BY members.church_id, members.branch_id
    ORDER BY members.church_id, members.branch_id
    ON CONFLICT (church_id, branch_id) DO UPDATE SET opted_in = known.opted_in + excluded.opted_in;
    RETURN NULL;
END
$$;
CREATE TRIGGER suppressions_inserted_count AFTER INSERT ON suppressions
    REFERENCING NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION keep_suppressed();
CREATE TRIGGER suppressions_updated_count AFTER UPDATE ON suppressions
    REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION keep_suppressed();
CREATE TRIGGER suppressions_erased_count AFTER DELETE ON suppressions
    REFERENCING OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION keep_suppressed();

REVOKE ALL ON FUNCTION lock_people, count_people, keep_people, keep_suppressed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION lock_people, count_people TO koinonia_messaging;
