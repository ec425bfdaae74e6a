"""Compressed search: codes in memory give a shortlist, whose vectors are scored exactly. See docs/search.md."""
