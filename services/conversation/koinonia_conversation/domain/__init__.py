"""The rules of the inbox, without I/O."""
