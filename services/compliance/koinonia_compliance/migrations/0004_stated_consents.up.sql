-- A consent may also be one that the church says was given: to whom, and where.
ALTER TABLE consents
    ALTER COLUMN number_id DROP NOT NULL,
    ALTER COLUMN carrier_id DROP NOT NULL,
    ADD COLUMN member_id uuid,
    ADD COLUMN stated_source text CHECK (length(stated_source) BETWEEN 1 AND 200),  -- in the church's words
    DROP CONSTRAINT consents_source_check,
    ADD CONSTRAINT consents_source_check CHECK (source IN ('text', 'admin', 'import')),
    ADD CONSTRAINT consents_proof_check CHECK (
        CASE source
            WHEN 'text' THEN num_nulls(number_id, carrier_id) = 0 AND num_nonnulls(member_id, stated_source) = 0
            ELSE num_nulls(member_id, stated_source) = 0 AND num_nonnulls(number_id, carrier_id) = 0 AND granted
        END
    );
