"""Generators for many sequences: exact signals of a few anchor tissues, combined by weights that need no sequence."""
