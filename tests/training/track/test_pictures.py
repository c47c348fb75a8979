import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from bootleg_bundle.errors import CheckpointError
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.engine.optimiser import build_optimiser
from bootleg_training.engine.progress import Progress
from bootleg_training.engine.state import save_state
from bootleg_training.track.folder import read_run
from bootleg_training.track.pictures import components, data_uri, latest_encoder, pictures
from tests.training.tiny import tiny_model
from tests.training.track.runs import write_run

SPEC = PreprocessSpec(height=32, width=32)


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_a_data_uri_holds_the_picture():
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(pixels(data_uri(picture)), picture)


def test_tokens_that_are_alike_have_one_colour():
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(4, 16, generator=generator)
    which = torch.arange(2 * 16).view(2, 16) % 4
    shown = components(kinds[which]).reshape(2 * 16, 3)
    assert len({tuple(colour) for colour in shown.tolist()}) == 4
    for kind in range(4):
        assert len({tuple(colour) for colour in shown[which.flatten() == kind].tolist()}) == 1


def test_the_first_component_is_red_and_spans_the_range():
    tokens = torch.zeros(1, 16, 8)
    tokens[0, :, 3] = torch.arange(16.0)
    shown = components(tokens)
    assert shown.shape == (1, 4, 4, 3)
    red = shown[0, :, :, 0].flatten().astype(int)
    assert (red[0], red[-1]) == (0, 255)
    assert (np.diff(red) >= 0).all()


def test_colours_do_not_hang_on_a_decomposition_s_signs():
    tokens = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(components(tokens), components(tokens.flip(0)).copy()[::-1])


def test_tokens_all_alike_are_one_dark_colour():
    assert set(components(torch.ones(2, 16, 8)).flatten().tolist()) == {0}


def test_a_run_s_pictures_are_its_images_and_its_outer_layers(tmp_path, config, pack):
    write_run(tmp_path / "run", config, pack, SPEC)
    rows = pictures(read_run(tmp_path / "run"), pack)
    assert list(rows) == ["image", "layer 1", "layer 3"]
    assert {len(row) for row in rows.values()} == {8}
    assert pixels(rows["image"][0].uri).shape == (32, 32, 3)
    assert pixels(rows["layer 3"][0].uri).shape == (8, 8, 3)
    assert rows["layer 3"][1].alt == "patch tokens of layer 3 for image 2, similar ones in one colour"


def test_before_there_is_a_checkpoint_the_newest_state_is_shown(tmp_path, config, pack):
    model = write_run(tmp_path / "run", config, pack, SPEC, finished=False)
    run = read_run(tmp_path / "run")
    with pytest.raises(CheckpointError, match="neither a checkpoint nor a saved state"):
        latest_encoder(run)
    optimiser = build_optimiser(model, config.optim)
    for parameter in [p for p in model.parameters() if p.requires_grad]:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    save_state(tmp_path / "run" / "state", model, optimiser, config, Progress(2, 16, 1.0, 0))
    shown = latest_encoder(run)
    assert all(torch.equal(a, b) for a, b in zip(shown.parameters(), model.teacher.parameters(), strict=True))
    other = tiny_model(config, seed=1).teacher
    assert not torch.equal(shown.patch_embed.weight, other.patch_embed.weight)


def test_a_damaged_state_is_an_error_that_names_it(tmp_path, config, pack):
    write_run(tmp_path / "run", config, pack, SPEC, finished=False)
    (tmp_path / "run" / "state" / "step-000000002").mkdir(parents=True)
    (tmp_path / "run" / "state" / "latest").write_text("step-000000002")
    (tmp_path / "run" / "state" / "step-000000002" / "state.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="step-000000002 cannot be read"):
        latest_encoder(read_run(tmp_path / "run"))
