import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.health import figures
from bootleg_training.health.figures import Health, measure
from bootleg_training.health.spectrum import alpha_req, mean_cosine, mean_std, rank_me
from bootleg_training.probes.features import mean_patch_features, pixels_of
from tests.training.tiny import tiny_model, tiny_pack

SPEC = PreprocessSpec(height=32, width=32)
LAYERS = (1, 3)


@pytest.fixture
def model(config):
    return tiny_model(config)


@pytest.fixture
def images():
    return tiny_pack(24).images


def test_each_figure_is_that_of_all_images_at_once(model, images, monkeypatch):
    monkeypatch.setattr(figures, "TOKENS", 7 * 64)  # batches of 7, the last of 3
    health = measure(5, model.teacher, model.student, LAYERS, images, SPEC)
    with torch.no_grad():
        x = torch.from_numpy(np.stack([pixels_of(SPEC, image[None])[0] for image in images])).float() / 255
        x = (x - torch.tensor(SPEC.mean)) / torch.tensor(SPEC.std)
        teacher, student = (
            torch.stack([F.layer_norm(z, z.shape[2:]) for z in one(x, taps=LAYERS).taps])
            for one in (model.teacher, model.student)
        )
    embedding = mean_patch_features(model.teacher, images, SPEC)
    pooled = teacher.mean(dim=2)
    assert health.step == 5
    for name, figure in (
        ("rank_me", rank_me),
        ("alpha_req", alpha_req),
        ("feature_std", mean_std),
        ("cosine", mean_cosine),
    ):
        assert getattr(health, name) == pytest.approx(figure(embedding), rel=1e-4), name
        assert getattr(health, f"{name}_layers") == pytest.approx([figure(z) for z in pooled], rel=1e-4), name
    assert health.token_std_layers == pytest.approx(
        [float(z.flatten(0, 1).std(dim=0, correction=0).mean()) for z in teacher], rel=1e-5
    )
    assert health.student_layers == pytest.approx(
        F.cosine_similarity(teacher, student, dim=3).mean(dim=(1, 2)).tolist(), rel=1e-5
    )
    assert health.knn is None


def test_it_repeats_and_leaves_random_states_and_weights_alone(model, images):
    before = [p.clone() for p in model.parameters()]
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002  # the global state is what must not be touched
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    first = measure(0, model.teacher, model.student, LAYERS, images, SPEC)
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002
    assert measure(0, model.teacher, model.student, LAYERS, images, SPEC) == first
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_an_encoder_agrees_with_itself(model, images):
    health = measure(0, model.teacher, model.teacher, LAYERS, images, SPEC)
    assert health.student_layers == pytest.approx([1, 1])


def test_a_constant_teacher_has_no_spread_at_all(model, images):
    with torch.no_grad():
        model.teacher.patch_embed.weight.zero_()
        model.teacher.positions_ND.zero_()
    health = measure(0, model.teacher, model.student, LAYERS, images, SPEC)
    assert health.token_std_layers == pytest.approx([0, 0], abs=1e-3)
    assert health.rank_me == pytest.approx(1, abs=0.01)
    assert health.cosine == pytest.approx(1)
    assert math.isnan(health.alpha_req)


def test_a_teacher_that_sees_positions_only_keeps_tokens_apart_but_not_images(model, images):
    with torch.no_grad():
        model.teacher.patch_embed.weight.zero_()
    health = measure(0, model.teacher, model.student, LAYERS, images, SPEC)
    assert min(health.token_std_layers) > 0.1
    assert health.cosine_layers == pytest.approx([1, 1])
    assert health.feature_std_layers == pytest.approx([0, 0], abs=1e-5)


def test_spoilt_weights_give_figures_that_are_not_finite(model, images):
    with torch.no_grad():
        model.teacher.blocks[0].fc1.bias.fill_(math.nan)
    health = measure(0, model.teacher, model.student, LAYERS, images, SPEC)
    assert math.isnan(health.rank_me)
    assert math.isnan(health.token_std_layers[0])


def test_figures_survive_their_record():
    health = Health(7, 1.23456789, 2.0, cosine=0.5, rank_me_layers=(1.0, 2.0), knn=0.25, knn_queries=600)
    record = json.loads(json.dumps(health.record()))
    assert record == {
        "step": 7, "rank_me": 1.23457, "alpha_req": 2.0, "cosine": 0.5, "rank_me_layers": [1, 2], "knn": 0.25,
        "knn_queries": 600,
    }  # fmt: skip
    assert asdict(Health.of(record)) == asdict(health) | {"rank_me": 1.23457}


def test_an_older_record_lacks_figures_and_has_others():
    health = Health.of({"step": 0, "encoder": "random_init", "knn": 0.225, "rank_me": None, "verdict": "ok"})
    assert (health.step, health.knn, health.cosine, health.token_std_layers) == (0, 0.225, None, ())
    assert math.isnan(health.rank_me)
