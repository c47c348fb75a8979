"""Fixtures of the contract suite."""

from tests.contract.tiny import _remove_tiny, exported_bundle, tiny_checkpoint

__all__ = ["_remove_tiny", "exported_bundle", "tiny_checkpoint"]
