"""From command-line flags to configurations of the library."""
