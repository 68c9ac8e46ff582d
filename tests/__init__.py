"""The tests mirror the three packages; the browser tests drive the real page."""
