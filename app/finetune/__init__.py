"""The Fine-tune tab: what is asked for, how it is watched, and its endpoints."""
