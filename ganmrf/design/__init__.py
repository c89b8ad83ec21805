"""Sequence design: the precision that a sequence allows, the limits it must keep, and the search for a better one."""
