"""Bootleg pretraining, probes and checkpoints. Imports the bundle's contract alone."""
