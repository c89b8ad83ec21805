"""Signals of spins: sequences, tissue, simulation by extended phase graphs, and the isochromat reference."""
