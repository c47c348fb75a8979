"""The engine in this process, on a real graph of a few hundred bytes."""

import numpy as np
import pytest

from bootleg_bundle.errors import CorruptImageError, ManifestError
from bootleg_embed.backend import GRAPH_OUTPUT, Failure
from bootleg_embed.local import LocalBackend
from bootleg_service.errors import StartupError
from tests import bundles, images

ENGINE = {"device": "cpu", "threads": 1}


@pytest.mark.parametrize(
    ("output", "name"), [("embedding", "embedding"), ("layers", "layers"), ("patches", "patch_tokens")]
)
def test_rows_are_the_graphs(tiny_bundle, output, name):
    backend = LocalBackend(tiny_bundle.path, ENGINE, output, 4)
    scenes = [images.scene(8, 8, seed=n) for n in range(3)]
    rows = backend.rows([backend.prepare(images.png(scene)) for scene in scenes])
    expected = bundles.reference(np.stack(scenes))[GRAPH_OUTPUT[output]]
    np.testing.assert_allclose(np.stack(rows), expected, rtol=1e-5)
    assert backend.served.row == expected.shape[1:]
    assert (backend.served.model, backend.served.sha256) == ("tiny", tiny_bundle.sha256)
    assert backend.served.space == tiny_bundle.manifest.embedding_space
    assert backend.rows([]) == []


def test_a_batch_that_fails_is_halved_until_the_guilty_image_is_alone(tiny_bundle):
    backend = LocalBackend(tiny_bundle.path, ENGINE, "embedding", 8)
    real, sizes = backend._engine.run, []

    def run(pixels, outputs):
        sizes.append(len(pixels))
        if (pixels[:, 0, 0, 0] == 77).any():
            raise RuntimeError("CUDA failure 700")
        return real(pixels, outputs)

    backend._engine.run = run
    shades = [np.full((8, 8, 3), 77 if n == 5 else n, np.uint8) for n in range(8)]
    rows = backend.rows(shades)
    assert [isinstance(row, Failure) for row in rows] == [n == 5 for n in range(8)]
    assert rows[5] == Failure("engine_error", "the model failed on this image")
    assert sizes == [8, 4, 4, 2, 1, 1, 2]


def test_what_cannot_be_had_is_refused(tiny_bundle, tmp_path):
    with pytest.raises(ManifestError):
        LocalBackend(tmp_path, ENGINE, "embedding", 4)
    with pytest.raises(StartupError, match="int8"):
        LocalBackend(tiny_bundle.path, {**ENGINE, "precision": "int8"}, "embedding", 4)
    with pytest.raises(CorruptImageError):
        LocalBackend(tiny_bundle.path, ENGINE, "embedding", 4).prepare(images.png()[:-30])
