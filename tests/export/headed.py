"""A tiny checkpoint with heads, and its bundle; the fixtures are the whole export suite's."""

import shutil

import numpy as np
import pytest
import torch

from bootleg_bundle.bundle import write_bundle
from bootleg_bundle.manifest import GOLDEN_NAME, GRAPH_INPUT, Probe
from bootleg_export.heads import export_heads
from bootleg_training.checkpoint import head_probe, read_config, write_head
from bootleg_training.heads.classes import numbered_classes
from bootleg_training.heads.config import HeadConfig
from bootleg_training.heads.model import build_head
from tests.contract.tiny import LAYERS, SHAPE, write_tiny_checkpoint

SIZE = SHAPE.image_size
KINDS = {"linear": 1, "layers": 2}


def put(checkpoint, name, kind, *, size=SIZE, classes=5):
    config = HeadConfig(kind=kind, size=size, channels=16, upscale=KINDS[kind], classes=numbered_classes(classes))
    torch.manual_seed(len(name))
    head = build_head(config, SHAPE.width, len(LAYERS))
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    probe = Probe(probe=head_probe(name), dataset="made up", metric="mIoU", value=0.5, random_init=0.25)
    write_head(checkpoint, name, config, head.state_dict(), probe)


def tokens_of(serving_graph, pixels):
    with torch.no_grad():
        _, patch_tokens, _, layer_tokens = serving_graph(torch.from_numpy(pixels))
    return {"patch_tokens": patch_tokens.numpy(), "layer_tokens": layer_tokens.numpy()}


@pytest.fixture(scope="session")
def headed(tmp_path_factory):
    """The tiny checkpoint with a head of each kind, and one for another input."""
    checkpoint = write_tiny_checkpoint(tmp_path_factory.mktemp("headed") / "checkpoint")
    for kind in KINDS:
        put(checkpoint, kind, kind)
    put(checkpoint, "larger", "layers", size=2 * SIZE)
    return checkpoint


@pytest.fixture(scope="session")
def exported(headed, tmp_path_factory):
    return export_heads(tmp_path_factory.mktemp("heads"), headed, read_config(headed), size=SIZE)


@pytest.fixture(scope="session")
def headed_bundle(exported, bundle, serving_graph):
    """The tiny bundle, written again with heads beside its encoder."""
    folder = exported.folder
    for name in bundle.manifest.files:
        shutil.copy(bundle.file(name), folder / name)
    golden = bundle.golden()
    golden |= exported.expected(tokens_of(serving_graph, golden[GRAPH_INPUT]))
    np.savez(folder / GOLDEN_NAME, **golden)
    fields = {name: getattr(bundle.manifest, name) for name in type(bundle.manifest).model_fields if name != "files"}
    return write_bundle(folder, fields | {"heads": exported.heads}, [*bundle.manifest.files, *exported.files])
