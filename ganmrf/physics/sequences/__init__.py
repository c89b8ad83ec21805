"""Sequences: what the scanner plays, one short file each, which reads like its pulse diagram."""
