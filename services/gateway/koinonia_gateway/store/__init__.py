"""The SQL of the gateway, a noun per file; each function runs in the caller's transaction."""
