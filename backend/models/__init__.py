"""Which models there are, where they come from, and how their weights get into memory."""
