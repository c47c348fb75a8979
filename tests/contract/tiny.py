"""A random encoder, small enough to export in seconds: the model of the suites that need a real one."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest
import torch

from bootleg_bundle.manifest import Probe, Provenance
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_export.build import build_bundle
from bootleg_training.checkpoint import weights_sha256, write_checkpoint
from bootleg_training.config import EncoderConfig, RunConfig
from bootleg_training.vit import Encoder

SHAPE = EncoderConfig(image_size=32, patch_size=4, width=32, depth=3, heads=2, registers=2)
LAYERS = (1, 2, 3)
NAME = "tiny"


def write_tiny_checkpoint(path: Path, *, scale: float = 1.0) -> Path:
    """Write a checkpoint of random weights; ``scale`` multiplies them."""
    torch.manual_seed(0)
    encoder = Encoder(SHAPE)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.mul_(scale)
    provenance = Provenance(
        method="Bootleg",
        dataset="made-up-shapes",
        dataset_fingerprint="f" * 64,
        steps=1234,
        images_seen=56_789,
        training_seconds=7200,
        hardware="an abacus",
        commit="0123abc",
        checkpoint_sha256=weights_sha256(dict(encoder.named_parameters())),
        versions={"torch": torch.__version__},
    )
    probe = Probe(probe="knn", dataset="made-up-labels", value=0.625, random_init=0.125, detail="k = 20")
    config = {
        "encoder": SHAPE,
        "target_layers": LAYERS,
        "preprocess": PreprocessSpec(height=SHAPE.image_size, width=SHAPE.image_size),
        "run": RunConfig(encoder=SHAPE),
        "provenance": provenance,
        "probes": (probe,),
    }
    write_checkpoint(path, {"encoder": encoder.state_dict()}, config)
    return path


@functools.cache
def _build() -> tuple[tempfile.TemporaryDirectory[str], Path, Path]:
    folder = tempfile.TemporaryDirectory(prefix="bootleg-tiny-", ignore_cleanup_errors=True)
    checkpoint = write_tiny_checkpoint(Path(folder.name) / "checkpoint")
    build_bundle(checkpoint, Path(folder.name) / "bundle", name=NAME)
    return folder, checkpoint, Path(folder.name) / "bundle"


@pytest.fixture(scope="session")
def tiny_checkpoint():
    """The checkpoint's directory; not to be written to."""
    return _build()[1]


@pytest.fixture(scope="session")
def exported_bundle():
    """Its bundle's directory, exported once for all suites; not to be written to."""
    return _build()[2]


@pytest.fixture(scope="session", autouse=True)
def _remove_tiny():
    yield
    if _build.cache_info().currsize:
        _build()[0].cleanup()
