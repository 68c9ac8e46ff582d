"""What stays on the disk: captures, measurements, comparisons, names and notes."""
