"""Compressed search: short codes in memory bring a shortlist, and the vectors on disk decide. See docs/search.md."""
