"""Kill a run at its k-th touch of the disk, for every k; resume it; say whether anything was lost or doubled.

``python -m tests.embed.crash FOLDER OUT``: a process without threads, so that it can fork.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from bootleg_embed import parquet
from bootleg_embed.output import finish, finished, layout
from bootleg_embed.run import Options, run
from bootleg_embed.store import Store

from .made_up import Doubling, Numbers, Silent, identity

COUNT = 10
KILLED = 9


def work(out, crash_at=None):
    """One run to its end, or to its ``crash_at``-th flush or rename."""
    if crash_at is not None:
        left = iter(range(crash_at))

        def counted(function):
            def call(*arguments, **options):
                if next(left, None) is None:
                    os._exit(KILLED)
                return function(*arguments, **options)

            return call

        os.fsync = counted(os.fsync)
        Path.replace = counted(Path.replace)
        shutil.rmtree = counted(shutil.rmtree)
    places = layout(out)
    if finished(places, identity(COUNT)) is None:
        store = Store(places.partial, identity(COUNT))
        options = Options(threads=2, max_corrupt=1, commit_seconds=0)
        assert run(Numbers(COUNT, corrupt={3}), Doubling(), store, options, Silent(), lambda: False)
        finish(store, places)


def in_a_child(out, crash_at=None):
    """The exit status of :func:`work` in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            work(out, crash_at)
        except BaseException:  # noqa: BLE001  # a child must never go on as its parent
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def content(out):
    """The bytes of the finished files, and what else lies beside them."""
    places = layout(out)
    kept = [path for path in (places.main, places.items) if path is not None]
    others = {path.name for path in out.parent.iterdir()} - {path.name for path in kept} - {places.record.name}
    return [path.read_bytes() for path in kept], others - {out.name}


def main(folder, name):
    """Try every moment; print how many there were."""
    if name.endswith(".parquet"):
        parquet.arrow()[0].array([0])  # imports pandas, where there is one: once, here, and not in every child
    whole = Path(folder) / "whole" / name
    assert in_a_child(whole) == 0
    moments = 0
    while True:
        out = Path(folder) / str(moments) / name
        status = in_a_child(out, moments)
        assert status in {0, KILLED}, status
        if status == 0:
            break
        assert in_a_child(out) == 0, moments
        assert content(out) == content(whole), moments
        moments += 1
    sys.stdout.write(f"{moments}\n")


main(*sys.argv[1:])
