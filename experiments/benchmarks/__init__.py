"""How fast the library is, as ratios to references in the same run."""
