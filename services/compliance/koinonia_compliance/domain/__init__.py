"""The rules of compliance, without I/O."""
