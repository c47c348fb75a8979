"""The trial with a clock of its own: what is counted as waiting, as warming up, and as speed."""

import pytest

from bootleg_training.engine.flops import image_flops
from bootleg_training.engine.trial import WARM_STEPS, WARM_STEPS_COMPILED, Stopwatch, measure
from bootleg_training.engine.world import World
from tests.training.tiny import CPU, tiny_batch, tiny_config


class Fake:
    """Reading takes ``read`` seconds, a step what ``step`` says for its number."""

    def __init__(self, config, pack, *, read, step):
        self.now, self.read, self.seconds = 0.0, read, step
        self.batches = [tiny_batch(config, pack, i) for i in range(4)]
        self.steps = 0

    def source(self):
        number = 0
        while True:
            self.now += self.read
            yield self.batches[number % len(self.batches)]
            number += 1

    def step(self, batch):
        self.now += self.seconds(self.steps)
        self.steps += 1

    def run(self, config, seconds, shown=lambda _: None):
        watch = Stopwatch(CPU, World(), clock=lambda: self.now, shown=shown)
        return measure(self.step, self.source(), config, seconds, watch)


def test_speed_and_waiting_are_those_of_the_clock(config, pack):
    fake = Fake(config, pack, read=0.25, step=lambda _: 0.75)
    trial = fake.run(config, 10.0)
    assert trial.images_per_s == pytest.approx(config.batch_size)
    assert trial.data_wait == pytest.approx(0.25)
    assert trial.steps == 10
    assert fake.steps == trial.steps + WARM_STEPS


def test_the_first_steps_do_not_count(config, pack):
    trial = Fake(config, pack, read=0.0, step=lambda number: 4.0 if number < WARM_STEPS - 1 else 0.5).run(config, 10.0)
    assert trial.images_per_s == pytest.approx(2 * config.batch_size)


def test_one_slow_step_does_not_change_the_median(config, pack):
    trial = Fake(config, pack, read=0.0, step=lambda number: 5.0 if number == 6 else 0.5).run(config, 10.0)
    assert trial.images_per_s == pytest.approx(2 * config.batch_size)


def test_fast_steps_are_timed_in_laps(config, pack):
    trial = Fake(config, pack, read=0.0, step=lambda _: 0.01).run(config, 10.0)
    assert trial.steps % 50 == 0  # half a second each, of which 20 make the trial
    assert trial.images_per_s == pytest.approx(100 * config.batch_size)


def test_a_step_longer_than_the_trial_is_measured_once(config, pack):
    trial = Fake(config, pack, read=1.0, step=lambda _: 99.0).run(config, 2.0)
    assert trial.steps == 1
    assert trial.images_per_s == pytest.approx(config.batch_size / 100)
    assert trial.data_wait == pytest.approx(0.01)


def test_compiled_blocks_warm_up_until_no_length_is_new(pack):
    config = tiny_config(compile=True)
    fake = Fake(config, pack, read=0.0, step=lambda _: 1.0)
    shapes = [(batch.visible_BV.shape[1], batch.rectangles_BMT.shape[2]) for batch in fake.batches]
    trial = fake.run(config, 100.0)
    newest = max(shapes.index(shape) for shape in set(shapes))
    assert fake.steps - trial.steps == newest + 1 + WARM_STEPS_COMPILED


def test_warming_up_is_bounded(pack):
    config = tiny_config(compile=True)
    fake = Fake(config, pack, read=0.0, step=lambda _: 1.0)
    assert fake.steps == 0
    trial = fake.run(config, 3.0)
    assert fake.steps - trial.steps == 3


def test_the_work_is_the_mean_of_what_was_computed(config, pack):
    fake = Fake(config, pack, read=0.0, step=lambda _: 1.0)
    trial = fake.run(config, 4.0)
    lengths = [(batch.visible_BV.shape[1], batch.rectangles_BMT.shape[2]) for batch in fake.batches]
    each = [image_flops(config, visible=v, rectangle=t).total for v, t in lengths]
    assert trial.steps == 4  # once around
    assert trial.flops_per_image == pytest.approx(sum(each) / 4)


def test_progress_is_shown_in_seconds(config, pack):
    told = []
    Fake(config, pack, read=0.0, step=lambda _: 1.0).run(config, 3.0, told.append)
    assert told[-3:] == [1.0, 2.0, 3.0]
