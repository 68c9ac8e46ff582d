"""One fine-tune from its data and targets to its result."""
