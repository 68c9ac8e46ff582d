"""Models, captures, and everything that lives on a disk or a device. Knows no page."""
