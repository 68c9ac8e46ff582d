"""People: who asks, who may see what, whose turn it is, and how much each may take."""
