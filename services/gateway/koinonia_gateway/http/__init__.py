"""The gateway's own routes, a noun per file."""
