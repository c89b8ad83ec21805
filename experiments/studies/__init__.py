"""Finished studies, kept so that their figures can be reproduced."""
