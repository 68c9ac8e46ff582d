"""The Explore tab: one question or drawing, its result card and its curve."""
