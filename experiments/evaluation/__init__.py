"""How generators, scans and designs are judged."""
