"""Figures from arrays, and the self-contained HTML report."""
