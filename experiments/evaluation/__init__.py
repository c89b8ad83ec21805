"""Evaluation of generators and designs."""
