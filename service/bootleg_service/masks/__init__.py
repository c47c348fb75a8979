"""Masks from one forward pass: by the bundle's trained heads, or label-free from patch tokens. NumPy only."""
