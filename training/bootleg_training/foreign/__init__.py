"""Encoders that other projects trained: their files read, renamed and reshaped into our checkpoint."""
