"""``bootleg import-weights`` and what a checkpoint made by it is good for."""

import json

import pytest
import torch
from click.testing import CliRunner

from bootleg_bundle.bundle import file_sha256
from bootleg_bundle.errors import CheckpointError
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.checkpoint import interpreted_sha256, load_encoder, read_config, weights_sha256
from bootleg_training.cli.import_weights import import_weights
from bootleg_training.config import RunConfig
from bootleg_training.engine.initial import initialise_from
from bootleg_training.objective import Bootleg
from tests.training.foreign import made
from tests.training.foreign.made import HEADS, SIDE


def run(*arguments):
    return CliRunner().invoke(import_weights, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def dinov2(tmp_path):
    content, state = made.dinov2()
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth", state


def test_the_checkpoint_computes_what_the_foreign_encoder_does(dinov2, tmp_path):
    file, state = dinov2
    done = run(file, "--out", tmp_path / "checkpoint", "--heads", HEADS)
    assert done.exit_code == 0
    assert done.stdout == (
        f"{tmp_path / 'checkpoint'}: ViT 32x3/4 at 28 px, 4 heads, CLS, 4 registers, learned positions\n"
    )
    assert "read the whole file as DINOv2's layout" in done.stderr
    encoder, _ = load_encoder(tmp_path / "checkpoint")
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        patches = encoder(x.permute(0, 2, 3, 1).contiguous()).patches
    torch.testing.assert_close(patches, made.forward(state, x)[0], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["ijepa", "mae", "dinov2"])
def test_it_says_whose_weights_they_are_and_claims_no_run(name, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(getattr(made, name)()[0], file)
    assert run(file, "--out", tmp_path / "checkpoint", "--heads", HEADS, "--layout", name).exit_code == 0
    config = read_config(tmp_path / "checkpoint")
    source = config.provenance
    method = {"ijepa": "I-JEPA", "mae": "MAE", "dinov2": "DINOv2"}[name]
    assert source.method == f"{method} elsewhere (imported from a file with SHA-256 {file_sha256(file)})"
    assert (source.steps, source.images_seen, source.training_seconds) == (0, 0, 0)
    assert source.checkpoint_sha256 == weights_sha256(dict(load_encoder(tmp_path / "checkpoint")[0].named_parameters()))
    assert source.versions["torch"] == torch.__version__
    assert config.target_layers == (1, 2, 3)
    assert config.run.name == f"imported-{name}"
    assert config.run.encoder == config.encoder
    assert config.preprocess == PreprocessSpec(height=SIDE, width=SIDE)
    assert config.probes == ()
    assert set(config.files) == {"encoder.safetensors"}


def test_one_file_gives_one_checkpoint(dinov2, tmp_path):
    for name in ("one", "two"):
        run(dinov2[0], "--out", tmp_path / name, "--heads", HEADS)
    one, two = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "two"))
    assert one == two


def test_another_image_size_and_number_of_heads(dinov2, tmp_path):
    run(dinov2[0], "--out", tmp_path / "checkpoint", "--heads", 2, "--image-size", 40)
    config = read_config(tmp_path / "checkpoint")
    assert (config.encoder.image_size, config.encoder.heads, config.preprocess.height) == (40, 2, 40)


def test_one_file_read_with_two_numbers_of_heads_is_two_embedding_spaces(dinov2, tmp_path):
    for heads in (HEADS, 2):
        run(dinov2[0], "--out", tmp_path / str(heads), "--heads", heads)
    one, other = (read_config(tmp_path / str(heads)) for heads in (HEADS, 2))
    weights = one.provenance.checkpoint_sha256
    assert other.provenance.checkpoint_sha256 == weights
    assert len({weights, interpreted_sha256(weights, one), interpreted_sha256(weights, other)}) == 3


def test_the_customary_heads_are_the_same_space_said_or_not(tmp_path):
    torch.save(made.mae(width=64)[0], tmp_path / "weights.pth")
    for name, said in (("said", ("--heads", 1)), ("custom", ())):
        assert run(tmp_path / "weights.pth", "--out", tmp_path / name, *said).exit_code == 0
    one, other = (read_config(tmp_path / name) for name in ("said", "custom"))
    assert one == other
    assert interpreted_sha256("0" * 64, one) == "0" * 64


def test_a_run_goes_on_from_it(dinov2, tmp_path):
    run(dinov2[0], "--out", tmp_path / "checkpoint", "--heads", HEADS)
    config = read_config(tmp_path / "checkpoint")
    model = Bootleg(RunConfig(encoder=config.encoder))
    notes = initialise_from(model, tmp_path / "checkpoint")
    encoder, _ = load_encoder(tmp_path / "checkpoint")
    for part in (model.student, model.teacher):
        assert all(torch.equal(p, q) for p, q in zip(part.parameters(), encoder.parameters(), strict=True))
    assert "DINOv2 elsewhere" in notes[0]
    assert "no student" in notes[1]
    assert "no predictor" in notes[2]


def test_an_existing_checkpoint_is_not_overwritten(dinov2, tmp_path):
    run(dinov2[0], "--out", tmp_path / "checkpoint", "--heads", HEADS)
    before = (tmp_path / "checkpoint" / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        run(dinov2[0], "--out", tmp_path / "checkpoint", "--heads", HEADS)
    assert (tmp_path / "checkpoint" / "config.json").read_bytes() == before


def test_nothing_is_left_of_an_import_that_is_refused(dinov2, tmp_path):
    with pytest.raises(CheckpointError, match="--heads"):
        run(dinov2[0], "--out", tmp_path / "checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_an_encoder_that_no_run_can_have_is_refused(tmp_path):
    torch.save(made.mae(grid=3)[0], tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=r"no run can have: .*grid of 3 x 3"):
        run(tmp_path / "weights.pth", "--out", tmp_path / "checkpoint", "--heads", HEADS)


@pytest.mark.parametrize(
    "arguments", [["--layout", "timm"], ["--heads", "0"], ["--image-size", "4"]], ids=lambda arguments: arguments[0]
)
def test_options_out_of_bounds_are_refused(arguments, dinov2, tmp_path):
    assert run(dinov2[0], "--out", tmp_path / "checkpoint", *arguments).exit_code == 2


def test_the_help_names_the_layouts():
    assert "auto|ijepa|mae|dinov2" in run("--help").stdout
