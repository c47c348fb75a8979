"""The loop and the store, without files of images and without a model."""

import errno
import hashlib
import json
import os

import numpy as np
import pytest

from bootleg_bundle.errors import DataError
from bootleg_embed import run as run_module
from bootleg_embed.output import finish, finished, layout
from bootleg_embed.run import Options, run
from bootleg_embed.store import ITEMS, VECTORS, Store

from .made_up import DIM, Doubling, Numbers, Silent, identity, row_of


def embedded(tmp_path, source, backend=None, *, stop=lambda: False, meter=None, fields=None, **options):
    """Run into ``tmp_path/a.npy``; gives the vectors and the items."""
    wanted = identity(len(source), **(fields or {}))
    store = Store(tmp_path / "a.npy.partial", wanted)
    try:
        chosen = Options(**{"max_corrupt": 1, "commit_seconds": 0, **options})
        complete = run(source, backend or Doubling(), store, chosen, meter or Silent(), stop)
        if not complete:
            return None
        finish(store, layout(tmp_path / "a.npy"))
    finally:
        store.close()
    return np.load(tmp_path / "a.npy"), items_of(tmp_path / "a.items.jsonl")


def items_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("threads", [1, 7])
@pytest.mark.parametrize("group", [1, 3, 100])
def test_rows_stand_in_the_sources_order_whatever_the_threads_do(tmp_path, threads, group):
    vectors, items = embedded(tmp_path, Numbers(20), Doubling(group), threads=threads)
    np.testing.assert_array_equal(vectors, np.stack([row_of(n) for n in range(20)]))
    assert items == [{"row": n, "id": f"folder/{n}.png", "status": "ok"} for n in range(20)]


def test_a_group_is_always_the_same_images(tmp_path):
    backend = Doubling(4)
    embedded(tmp_path, Numbers(10, corrupt={1, 9}), backend, threads=5)
    assert backend.groups == [[0, 2, 3], [4, 5, 6, 7], [8]]


def test_images_that_fail_are_recorded_with_the_reason(tmp_path):
    source = Numbers(12, corrupt={2}, absent={5})
    backend = Doubling(fails={7}, values={8: np.nan})
    meter = Silent()
    vectors, items = embedded(tmp_path, source, backend, meter=meter)
    failed = {item["row"]: (item["code"], item["reason"]) for item in items if item["status"] == "failed"}
    assert failed == {
        2: ("corrupt_image", "the PNG image is truncated or corrupt"),
        5: ("unreadable", "No such file or directory"),
        7: ("engine_error", "failed"),
        8: ("engine_error", "the model's answer for this image is not finite"),
    }
    assert np.isnan(vectors[sorted(failed)]).all()
    assert np.isfinite(np.delete(vectors, sorted(failed), axis=0)).all()
    assert meter.seen == [(4, 1), (8, 3), (12, 4)]
    assert finished(layout(tmp_path / "a.npy"), identity(12)).failed == 4


def test_a_row_that_does_not_fit_float16_is_a_failure(tmp_path):
    backend = Doubling(values={1: 1e6})
    vectors, items = embedded(tmp_path, Numbers(3), backend, fields={"dtype": "float16"})
    assert vectors.dtype == np.float16
    assert [item["status"] for item in items] == ["ok", "failed", "ok"]
    np.testing.assert_array_equal(vectors[2], row_of(2))


@pytest.mark.parametrize("already_seen", [False, True])
def test_too_many_failures_stop_it_and_a_higher_limit_goes_on(tmp_path, already_seen):
    source = Numbers(40, corrupt=range(4, 40, 4))
    with pytest.raises(DataError, match=r"3 of 40 images failed, such as folder/12.png: .* allows 2") as caught:
        embedded(tmp_path, source, max_corrupt=0.05)
    assert "goes on from here" in caught.value.message
    if already_seen:
        with pytest.raises(DataError, match="4 of 40"):
            embedded(tmp_path, source, max_corrupt=0.05)
    backend = Doubling()
    vectors, items = embedded(tmp_path, source, backend, max_corrupt=0.5)
    assert backend.groups[0][0] == (21 if already_seen else 17)
    assert [item["row"] for item in items] == list(range(40))
    assert np.isnan(vectors).any(axis=1).sum() == 9


@pytest.mark.parametrize(("ids", "expected"), [("path", "folder/3.png"), ("name", "3.png"), ("hash", None)])
def test_ids(tmp_path, ids, expected):
    _, items = embedded(tmp_path, Numbers(4, corrupt={1}), ids=ids, fields={"ids": ids})
    assert items[3]["id"] == (expected or hashlib.sha256(b"3").hexdigest())
    if ids == "hash":
        assert items[1]["id"] == hashlib.sha256(b"corrupt").hexdigest()


def test_a_name_that_is_no_utf8_is_kept_readable(tmp_path):
    source = Numbers(2)
    source.file = lambda number: os.fsdecode(b"caf\xe9-%d.png" % number)
    _, items = embedded(tmp_path, source)
    assert os.fsencode(items[1]["id"]) == b"caf\xe9-1.png"


def test_told_to_stop_it_keeps_what_it_computed_and_goes_on_later(tmp_path):
    asked = iter([False, False, True])
    assert embedded(tmp_path, Numbers(20), stop=lambda: next(asked), commit_seconds=1e9) is None
    backend = Doubling()
    vectors, items = embedded(tmp_path, Numbers(20), backend)
    assert backend.groups[0] == [8, 9, 10, 11]
    np.testing.assert_array_equal(vectors, np.stack([row_of(n) for n in range(20)]))
    assert [item["row"] for item in items] == list(range(20))


def test_a_backend_that_breaks_leaves_what_was_computed(tmp_path):
    class Breaking(Doubling):
        def rows(self, prepared):
            if prepared[0] >= 8:
                raise RuntimeError("gone")
            return super().rows(prepared)

    with pytest.raises(RuntimeError, match="gone"):
        embedded(tmp_path, Numbers(20), Breaking(), commit_seconds=1e9)
    store = Store(tmp_path / "a.npy.partial", identity(20))
    assert store.journal.done == 8
    store.close()


def test_rows_are_appended_when_they_grow_heavy(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "COMMIT_BYTES", 8 * DIM * 4 - 1)
    done = []
    monkeypatch.setattr(Store, "append", lambda self, names, rows, seconds: done.append(len(names)))
    store = Store(tmp_path / "a.npy.partial", identity(20))
    run(Numbers(20), Doubling(4), store, Options(commit_seconds=1e9), Silent(), lambda: False)
    store.close()
    assert done == [8, 8, 4]


@pytest.mark.parametrize(
    "change",
    [
        {"model_sha256": "cd" * 32},
        {"embedding_space": "es1-" + "1" * 32},
        {"source": "other"},
        {"dtype": "float16"},
        {"ids": "hash"},
        {"output": "layers"},
        {"row": (7,)},
    ],
)
def test_another_run_is_never_mixed_in(tmp_path, change):
    asked = iter([False, True])
    embedded(tmp_path, Numbers(20), stop=lambda: next(asked))
    with pytest.raises(DataError, match=next(iter(change))):
        Store(tmp_path / "a.npy.partial", identity(20, **change))
    embedded(tmp_path, Numbers(20))
    with pytest.raises(DataError, match=next(iter(change))):
        finished(layout(tmp_path / "a.npy"), identity(20, **change))


def test_a_file_of_somebody_elses_is_never_written_over(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"precious")
    with pytest.raises(DataError, match="exists already"):
        finished(layout(tmp_path / "a.npy"), identity(3))


def test_two_processes_do_not_write_one_output(tmp_path):
    store = Store(tmp_path / "a.partial", identity(3))
    with pytest.raises(DataError, match="written by another process"):
        Store(tmp_path / "a.partial", identity(3))
    store.close()
    Store(tmp_path / "a.partial", identity(3)).close()


@pytest.mark.parametrize("name", [VECTORS, ITEMS])
@pytest.mark.parametrize("damage", ["gone", "short"])
def test_a_damaged_store_is_refused(tmp_path, name, damage):
    asked = iter([False, True])
    embedded(tmp_path, Numbers(20), stop=lambda: next(asked))
    path = tmp_path / "a.npy.partial" / name
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="missing or cut short"):
        Store(tmp_path / "a.npy.partial", identity(20))


def test_a_damaged_journal_is_refused(tmp_path):
    asked = iter([False, True])
    embedded(tmp_path, Numbers(20), stop=lambda: next(asked))
    (tmp_path / "a.npy.partial" / "journal.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        Store(tmp_path / "a.npy.partial", identity(20))


def test_a_disk_that_is_too_small_says_so_before_anything_is_computed(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        Store(tmp_path / "a.partial", identity(3))
    monkeypatch.undo()
    Store(tmp_path / "a.partial", identity(3)).close()  # room was made


def test_lines_left_by_an_interrupted_append_are_written_over(tmp_path):
    store = Store(tmp_path / "a.npy.partial", identity(2))
    store._items.write(b'{"half a line')
    store.append(["a", "b"], [row_of(0), row_of(1)], 0.1)
    finish(store, layout(tmp_path / "a.npy"))
    assert [item["id"] for item in items_of(tmp_path / "a.items.jsonl")] == ["a", "b"]
