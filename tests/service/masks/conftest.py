"""Fixtures of the mask suite."""

import numpy as np
import pytest

from tests.service.fake_engine import DIM, GRID, FakeEngine
from tests.service.pictures import number_of

from .headed import write_headed_bundle


class TokenEngine(FakeEngine):
    """The fake engine with patch tokens that differ, as an image's do."""

    def run(self, pixels, outputs):
        """As :meth:`FakeEngine.run`."""
        made = super().run(pixels, outputs)
        if "patch_tokens" in made:
            drawn = [np.random.default_rng(number_of(image)).normal(5, 1, (*GRID, DIM)) for image in pixels]
            made["patch_tokens"] = np.stack(drawn).astype(np.float32)
        return made


@pytest.fixture
def engine():
    return TokenEngine()


@pytest.fixture(scope="session")
def headed_bundle(tmp_path_factory):
    """The tiny bundle with two heads; not to be written to."""
    return write_headed_bundle(tmp_path_factory.mktemp("headed") / "bundle")
