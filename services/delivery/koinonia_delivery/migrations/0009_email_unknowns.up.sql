-- Attempts after which nobody knows whether the server has the e-mail; refusals counts those that were refused for now.
ALTER TABLE emails ADD COLUMN unknowns integer NOT NULL DEFAULT 0;
