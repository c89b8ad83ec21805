"""Files of scanners and other programs, in and out: one module for each family of formats."""
