"""A checkpoint that no training made: two encoders of random weights, unlike each other."""

from __future__ import annotations

import pytest
import torch

from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.checkpoint import write_checkpoint
from bootleg_training.vit import Encoder
from tests.provenance import made_up
from tests.training.tiny import tiny_config


def write_made_up(path, *, roles=("encoder", "student")):
    config = tiny_config()
    torch.manual_seed(7)
    weights = {role: Encoder(config.encoder).state_dict() for role in roles}
    fields = {
        "encoder": config.encoder,
        "target_layers": config.target.layers,
        "preprocess": PreprocessSpec(height=32, width=32),
        "run": config,
        "provenance": made_up(),
    }
    write_checkpoint(path, weights, fields)
    return path


@pytest.fixture
def saved(tmp_path):
    return write_made_up(tmp_path / "checkpoint")
