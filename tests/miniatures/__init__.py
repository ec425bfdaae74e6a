"""Each benchmark in miniature: the exact names, folders and lists of its download, with pictures of a drawn town."""
