"""Fingerprints in bulk: grids, building, compression, storage and matching."""
