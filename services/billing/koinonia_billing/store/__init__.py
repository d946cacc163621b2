"""The SQL of billing, a noun per file; each function runs in the caller's transaction."""
