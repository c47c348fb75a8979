from itertools import pairwise

import pytest

from bootleg_training.engine.schedule import rates
from tests.training.tiny import tiny_config

RUN = tiny_config(
    images=8 * 1000,
    optim={"warmup": 0.1, "weight_decay": 0.04, "final_weight_decay": 0.4, "ema_start": 0.99, "ema_end": 1.0},
)


def series(config, name):
    return [getattr(rates(config, step * config.batch_size), name) for step in range(config.steps + 1)]


def test_the_rate_rises_linearly_to_its_peak_and_no_further():
    lr = series(RUN, "lr")
    assert RUN.steps == 1000
    assert lr[0] == pytest.approx(RUN.peak_lr / 100)
    assert lr[49] == pytest.approx(RUN.peak_lr / 2)
    assert lr[99] == pytest.approx(RUN.peak_lr)
    assert max(lr) <= RUN.peak_lr * (1 + 1e-12)


def test_the_rate_falls_as_a_cosine_to_its_end():
    lr = series(RUN, "lr")
    assert lr[100] == pytest.approx(RUN.peak_lr)
    assert lr[550] == pytest.approx((RUN.peak_lr + RUN.optim.final_lr) / 2, rel=1e-6)
    assert lr[1000] == pytest.approx(RUN.optim.final_lr)
    assert all(a > b for a, b in pairwise(lr[100:]))


def test_the_peak_follows_the_root_of_the_batch():
    assert tiny_config(batch_size=512).peak_lr == pytest.approx(5e-4)
    assert tiny_config(batch_size=2048).peak_lr == pytest.approx(1e-3)


def test_weight_decay_goes_from_its_start_to_its_end():
    decay = series(RUN, "weight_decay")
    assert decay[0] == pytest.approx(0.04)
    assert decay[500] == pytest.approx(0.22)
    assert decay[1000] == pytest.approx(0.4)
    assert all(a < b for a, b in pairwise(decay))


def test_weight_decay_without_an_end_is_constant():
    assert set(series(tiny_config(optim={"weight_decay": 0.05}), "weight_decay")) == {0.05}


def test_the_teachers_momentum_rises_linearly():
    momentum = series(RUN, "momentum")
    assert momentum[0] == pytest.approx(0.99)
    assert momentum[500] == pytest.approx(0.995)
    assert momentum[1000] == 1.0


def test_a_run_without_warm_up_starts_at_its_peak():
    assert rates(tiny_config(optim={"warmup": 0.0}), 0).lr == pytest.approx(tiny_config().peak_lr)


@pytest.mark.parametrize("images", [1, 8, 9, 17])
def test_the_shortest_runs_have_positive_rates(images):
    config = tiny_config(images=images)
    assert all(rates(config, step * config.batch_size).lr > 0 for step in range(config.steps))
    assert all(0 <= rates(config, step * config.batch_size).momentum <= 1 for step in range(config.steps))
