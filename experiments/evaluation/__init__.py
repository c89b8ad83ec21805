"""How generators, scans and designs are evaluated."""
