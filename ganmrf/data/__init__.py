"""Small shipped data; ``README.md`` beside this file says where each came from and on what terms."""
