"""From maps to images: the digital brain."""
