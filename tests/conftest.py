"""Fixtures that every suite may use. Images made in code are in ``tests.images``, bundles in ``tests.bundles``."""

from __future__ import annotations

import hypothesis
import pytest

from bootleg_bundle import runtime_reports
from tests import bundles

runtime_reports.turn_off()

# No wall clock and no chance in the suite: examples are the same on every machine and every run.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory):
    """A whole, verified bundle with a real ONNX graph of a few hundred bytes. Read only: copy it to change it."""
    return bundles.write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
