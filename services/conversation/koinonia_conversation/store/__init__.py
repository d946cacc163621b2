"""The SQL of the inbox, a noun per file; each function runs in the caller's transaction."""
