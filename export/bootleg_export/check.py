"""One line of what ``bootleg verify`` reports; every module that verifies something returns these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """Something that was verified on this machine.

    Attributes:
        name: what.
        passed: whether it holds.
        detail: the figure and its bound.
    """

    name: str
    passed: bool
    detail: str
