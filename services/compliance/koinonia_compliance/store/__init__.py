"""The SQL of compliance, a noun per file; each function runs in the caller's transaction."""
