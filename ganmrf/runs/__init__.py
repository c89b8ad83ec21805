"""Long jobs in a folder: configured by plain dataclasses, resumed after any interruption."""
