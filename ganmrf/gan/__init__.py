"""The learned generator: networks, losses, data, training, checkpoints, generation, and what it is judged beside."""
