"""Generators for any sequence: exact signals of a few anchor tissues, combined by weights that need no sequence."""
