"""Messaging's SQL, a noun per file; every function works in its caller's transaction."""
