"""The rules of billing, without I/O."""
