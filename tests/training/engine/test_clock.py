"""The clock of a run, told by hand."""

from bootleg_training.engine.clock import Clock
from bootleg_training.engine.progress import Progress


class Time:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def images(time, seconds):
    while True:
        time.now += seconds
        yield "batch"


def test_seconds_go_on_where_the_last_start_ended():
    time = Time()
    clock = Clock(Progress(seconds=50.0), time)
    time.now += 7
    assert clock.seconds == 57


def test_a_lap_has_its_own_images_and_its_own_waiting():
    time = Time()
    clock = Clock(Progress(images=80), time)
    source = images(time, 1.0)
    assert clock.waiting_for(source) == "batch"
    time.now += 3
    assert clock.lap(Progress(images=120)) == {"images_per_s": 10.0, "data_wait": 0.25}
    time.now += 2
    assert clock.lap(Progress(images=130)) == {"images_per_s": 5.0, "data_wait": 0.0}
