"""The plan: its arithmetic, what it does when memory runs out, and that it leaves nothing behind."""

import weakref

import pytest
import torch

from bootleg_bundle.errors import ConfigError, DataError
from bootleg_training.engine import fit as module
from bootleg_training.engine.fit import _cuts, plan
from bootleg_training.engine.plan import Plan
from bootleg_training.engine.trainer import Trainer
from bootleg_training.engine.trial import Trial
from bootleg_training.engine.world import World
from tests.training.tiny import CPU, tiny_config, tiny_model, tiny_pack

SHORT = 0.05


@pytest.fixture
def tried(monkeypatch):
    """Makes steps run out of memory; gives the micro-batches of every attempt, and the trainers still alive."""
    attempts, trainers = [], weakref.WeakSet()

    def with_room_for(micro_batch, error):
        real = Trainer.step

        def step(trainer, batch, now):
            trainers.add(trainer)
            if not attempts or attempts[-1] != trainer.config.accumulate:
                attempts.append(trainer.config.accumulate)
            if trainer.config.batch_size // trainer.config.accumulate > micro_batch:
                raise type(error)(*error.args)  # a new one, as a kept one would keep what it saw
            return real(trainer, batch, now)

        monkeypatch.setattr(Trainer, "step", step)
        return attempts, trainers

    return with_room_for


def test_a_plan_measures_the_run_it_is_asked_about(config, pack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = plan(config, pack, CPU, seconds=SHORT)
    model = tiny_model(config)
    encoder = sum(p.numel() for p in model.teacher.parameters())
    predictor = sum(p.numel() for p in model.predictor.parameters())
    assert (found.encoder_parameters, found.predictor_parameters) == (encoder, predictor)
    assert found.state_bytes == 4 * (encoder + 3 * (encoder + predictor))
    assert found.epochs == config.images / 40
    assert found.fits
    assert found.trial.steps >= 1
    assert found.trial.images_per_s > 0
    assert 0 <= found.trial.data_wait <= 1
    assert list(tmp_path.iterdir()) == []


def test_hours_and_rates_follow_from_the_trial(config):
    found = Plan(
        config=config.model_copy(update={"images": 7_200_000}),
        hardware="abacus",
        processes=2,
        data_images=100_000,
        encoder_parameters=3_000_000,
        predictor_parameters=500_000,
        state_bytes=60 * 2**20,
        free_bytes=8 * 2**30,
        accumulate=1,
        trial=Trial(steps=12, images_per_s=1000.0, data_wait=0.25, flops_per_image=4e9),
        peak_bytes=3 * 2**29,
    )
    assert found.hours == pytest.approx(2.0)
    assert found.epochs == 72
    assert found.tflops == pytest.approx(2.0)  # of each of the two
    text = "\n".join(found.lines())
    for part in (
        "2 processes, each on abacus",
        "encoder 3.00 M, predictor 0.50 M",
        "60.0 MiB of weights",
        "1.50 GiB at the peak",
        "8.00 GiB free",
        "1,000.0 images/s in 12 steps, 25 % of the time waiting",
        "4 GFLOP an image, 2 TFLOP/s",
        "2.0 hours for 7,200,000 images, 72.0 epochs of 100,000",
        "bootleg prepare",
        "it fits",
    ):
        assert part in text


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["accelerator", "python", "cpu"],
)
def test_what_does_not_fit_is_tried_in_smaller_parts(config, pack, tried, error):
    attempts, _ = tried(2, error)
    found = plan(config, pack, CPU, seconds=SHORT)
    assert attempts == [1, 2, 4]
    assert not found.fits
    assert found.accumulate == 4
    assert found.trial is not None
    verdict = found.lines()[-1]
    assert "8 images at a time are too many" in verdict
    assert "2 at a time, with --set accumulate=4" in verdict


def test_when_nothing_fits_it_says_so(config, pack, tried):
    attempts, _ = tried(0, torch.OutOfMemoryError("out of memory"))
    found = plan(config, pack, CPU, seconds=SHORT)
    assert attempts == [1, 2, 4, 8]
    assert not found.fits
    assert (found.trial, found.hours, found.tflops) == (None, None, None)
    assert "not even one image at a time" in found.lines()[-1]


def test_another_error_is_not_taken_for_a_lack_of_memory(config, pack, tried):
    attempts, _ = tried(2, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        plan(config, pack, CPU, seconds=SHORT)
    assert attempts == [1]


def test_a_failed_attempt_leaves_no_model_behind(config, pack, tried, monkeypatch):
    attempts, trainers = tried(2, torch.OutOfMemoryError("out of memory"))
    alive = []
    real = module._trial

    def watched(*arguments):
        alive.append(len(trainers))
        return real(*arguments)

    monkeypatch.setattr(module, "_trial", watched)
    plan(config, pack, CPU, seconds=SHORT)
    assert attempts == [1, 2, 4]
    assert alive == [0, 0, 0]


def test_a_state_larger_than_memory_is_not_tried(config, pack, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda device: 1000)
    monkeypatch.setattr(module, "Trainer", lambda *_: pytest.fail("tried"))
    found = plan(config, pack, CPU)
    assert not found.fits
    assert found.free_bytes == 1000


def test_unknown_memory_is_no_obstacle(config, pack, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda device: None)
    found = plan(config, pack, CPU, seconds=SHORT)
    assert found.fits
    assert "free" not in found.lines()[2]


def test_the_refusals_are_those_of_the_run(config):
    with pytest.raises(DataError, match="batch_size is 8"):
        plan(config, tiny_pack(4), CPU)
    with pytest.raises(DataError, match="--size 32"):
        plan(config, tiny_pack(side=24), CPU)
    with pytest.raises(ConfigError, match="processes"):
        plan(config, tiny_pack(), CPU, world=World(0, 3))


@pytest.mark.parametrize(
    ("batch", "accumulate", "processes", "cuts"),
    [(8, 1, 1, [1, 2, 4, 8]), (12, 1, 1, [1, 2, 4, 12]), (48, 2, 2, [2, 4, 8, 24]), (7, 1, 1, [1, 7]), (8, 8, 1, [8])],
)
def test_micro_batches_are_at_least_halved_each_time(batch, accumulate, processes, cuts):
    assert _cuts(tiny_config(batch_size=batch, accumulate=accumulate), World(0, processes)) == cuts
