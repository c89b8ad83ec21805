"""What spins do: sequences, tissue, the extended phase graph and the isochromat reference."""
