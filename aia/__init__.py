"""The method: probe, intensity, and the embedded shapes world. Knows no model family, page or disk.

Shapes, everywhere: B batch, L layers, H heads, Q queries, K keys, G groups, D width, C branches
(conditional, and unconditional where there is one).
"""
