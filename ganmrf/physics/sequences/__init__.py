"""Pulse sequences: one short file for each kind, which reads like its pulse diagram."""
