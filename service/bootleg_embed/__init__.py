"""Bulk embedding: ``bootleg embed``."""
