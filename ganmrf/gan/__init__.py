"""The generator for one sequence: networks, losses, data, training, checkpoints, generation, and its baselines."""
