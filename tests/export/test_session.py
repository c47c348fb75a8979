import numpy as np
import pytest

from bootleg_export.graph import reference_outputs
from bootleg_export.parity import GATES, measure
from bootleg_export.samples import natural_noise
from bootleg_export.session import run_graph


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_the_graph_answers_like_pytorch_at_every_batch_size(bundle, serving_graph, batch):
    pixels = natural_noise(batch, 32, 32, seed=batch)
    rows = measure("fp32", reference_outputs(serving_graph, pixels), run_graph(bundle.graph("fp32"), pixels, (batch,)))
    assert [row.output for row in rows] == ["embedding", "patch_tokens", "layers", "layer_tokens"]
    assert all(GATES["fp32"].passes(row) for row in rows), rows


def test_images_are_run_in_batches_of_the_given_sizes_in_turn_and_come_back_in_order(bundle):
    pixels = natural_noise(10, 32, 32)
    alone, ragged = (run_graph(bundle.graph("fp32"), pixels, sizes) for sizes in ((1,), (4, 1)))
    for name, expected in alone.items():
        assert len(ragged[name]) == 10
        np.testing.assert_allclose(ragged[name], expected, rtol=1e-4, atol=1e-5)
