"""The HTML reports of the commands."""
