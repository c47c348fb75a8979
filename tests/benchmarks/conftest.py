"""The training suite's fixtures serve here too."""

from tests.training.conftest import _one_thread, config, pack

__all__ = ["_one_thread", "config", "pack"]
