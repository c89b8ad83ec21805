"""Sequence design: what a sequence is worth, what it must not do, and how to find a better one."""
