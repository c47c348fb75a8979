"""Bundles travel: push and pull between directories, HTTP locations and the Hugging Face hub.

The command ``bootleg bundle`` calls it. Every byte is compared with the manifest before a bundle gets its name;
nothing that was fetched is executed.
"""

from bootleg_bundle.transfer.places import Means, pull, push

__all__ = ["Means", "pull", "push"]
