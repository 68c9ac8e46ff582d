"""The Library tab: what is kept, found, named, taken along and brought in."""
