"""The generator for any sequence: exact signals of a few anchor tissues, combined with weights that depend on tissue alone."""
