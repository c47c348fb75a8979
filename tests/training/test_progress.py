import io

from rich.console import Console

from bootleg_training.progress import meter, track


def console(*, terminal):
    return Console(file=io.StringIO(), force_terminal=terminal, width=200)


def test_a_pipe_gets_plain_lines_and_the_last_step_always():
    out = console(terminal=False)
    with meter("train", 3, console=out) as shown:
        shown.say("resumed at step 0")
        for done in (1, 2, 3):
            shown.update(done, f"loss {done}")
    lines = out.file.getvalue().splitlines()
    assert lines[0] == "resumed at step 0"
    assert len(lines) == 2
    assert lines[1].startswith("train 3/3 (100 %)")
    assert lines[1].endswith("loss 3")


def test_a_terminal_gets_a_bar():
    out = console(terminal=True)
    with meter("train", 3, done=1, console=out) as shown:
        shown.say("[not] markup")
        shown.update(3, "loss 0.5")
    text = out.file.getvalue()
    assert "3/3" in text
    assert "loss 0.5" in text
    assert "[not] markup" in text


def test_tracked_items_come_through_unchanged(capsys):
    assert list(track(iter("abc"), 3, "prepare")) == ["a", "b", "c"]
    assert "prepare 3/3" in capsys.readouterr().err


def test_nothing_to_do_is_no_error():
    assert list(track([], 0, "prepare")) == []
