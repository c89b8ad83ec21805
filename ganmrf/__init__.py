"""MR fingerprinting in JAX: simulate, match and learn dictionaries."""

__version__ = "0.1.0"
