import io

from bootleg_embed import progress


def test_plain_lines_say_speed_and_time_left_and_are_not_too_many(monkeypatch):
    now = iter([0.0, 5.0, 12.0, 13.0, 23.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    out = io.StringIO()
    with progress.meter(1000, 100, out) as shown:
        for done in (150, 220, 230, 330):
            shown.update(done, 2)
    assert out.getvalue().splitlines() == [
        "embed 220/1,000 (22 %), 2 failed, 10.0 images/s, 78 s left",
        "embed 330/1,000 (33 %), 2 failed, 10.0 images/s, 67 s left",
    ]


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with progress.meter(10, 0, Terminal()) as shown:
        shown.update(5, 1)
    assert type(shown).__name__ == "_Bar"
