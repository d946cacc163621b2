-- Groups that were deleted, with who was in them, to be brought back. Apart from the others: nothing that reads groups
-- must know of them, and a name is free again.
CREATE TABLE deleted_groups (
    id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    branch_id uuid,  -- may be gone by now
    member_count integer NOT NULL,  -- when it was deleted
    member_ids uuid[] NOT NULL,  -- of those then, and of who left it by being deleted and came back since
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz NOT NULL
);
CREATE INDEX deleted_groups_page ON deleted_groups (church_id, id);
CALL pg_temp.protect('deleted_groups');
