"""Compressed search: codes in memory select a shortlist of photos, which is scored exactly. See docs/search.md."""
