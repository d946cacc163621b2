-- Whose people a broadcast's copy is counted with. Null: a reply, an automatic text, or a copy from before.
ALTER TABLE recipients ADD COLUMN branch_id uuid;
