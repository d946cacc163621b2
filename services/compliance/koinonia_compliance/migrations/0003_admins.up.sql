-- Who works for a church, as what: the audit log tells the role of each actor.
CREATE TABLE admins (
    admin_id uuid PRIMARY KEY,
    church_id uuid NOT NULL,
    version integer NOT NULL,
    role text NOT NULL,
    status text NOT NULL CHECK (status IN ('invited', 'active', 'removed'))
);
CALL pg_temp.protect('admins');
