"""Door: requests. A file per noun; each decodes, calls one use case, encodes."""
