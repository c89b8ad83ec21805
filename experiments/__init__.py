"""The commands of ganmrf: flags, one library call, files."""
