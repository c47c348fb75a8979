"""Segmentation heads: trained on frozen tokens, kept in the checkpoint, exported beside the encoder."""
