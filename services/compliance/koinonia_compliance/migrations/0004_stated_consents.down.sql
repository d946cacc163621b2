DELETE FROM consents WHERE source <> 'text';
ALTER TABLE consents
    DROP CONSTRAINT consents_proof_check,
    DROP CONSTRAINT consents_source_check,
    ADD CONSTRAINT consents_source_check CHECK (source IN ('text')),
    DROP COLUMN stated_source,
    DROP COLUMN member_id,
    ALTER COLUMN carrier_id SET NOT NULL,
    ALTER COLUMN number_id SET NOT NULL;
