"""The engine cache: names that say what an engine fits, whole files, and no engine taken on trust."""

import hashlib
import json
import os

import pytest
from pydantic import ValidationError

from bootleg_bundle.engine_cache import (
    EngineRecord,
    default_engine_cache,
    load_engine,
    prepare_cache,
    remove_engine,
    store_engine,
    write_whole,
)
from bootleg_bundle.engine_key import EngineKey, parse_batches
from bootleg_bundle.errors import ConfigError, EngineFileError

PLAN = b"an engine, as far as files go"
KEY = EngineKey(
    bundle="ab" * 32,
    precision="fp16",
    gpu="NVIDIA H200",
    compute_capability="9.0",
    tensorrt="10.16.1.11",
    batches=(1, 8, 32),
    flags=("no_tf32",),
)


def record(key=KEY, plan=PLAN, **changes):
    fields = {
        "key": key,
        "model": "tiny",
        "embedding_space": "es1-" + "0" * 32,
        "sha256": hashlib.sha256(plan).hexdigest(),
        "bytes": len(plan),
        "built": "2026-11-23T12:00:00+00:00",
        "build_seconds": 12.5,
        "golden": {1: 1e-4, 8: 2e-4},
    }
    return EngineRecord(**{**fields, **changes})


def test_the_name_says_bundle_precision_gpu_capability_and_version():
    assert KEY.stem.startswith("abababababab-fp16-nvidia-h200-sm90-trt10.16.1.11-")
    assert KEY.machine == "nvidia-h200-sm90-trt10.16.1.11"


@pytest.mark.parametrize(
    "change",
    [
        {"bundle": "ab" * 31 + "cd"},
        {"precision": "fp32"},
        {"gpu": "NVIDIA-H200"},
        {"compute_capability": "10.0"},
        {"tensorrt": "10.16.1.12"},
        {"batches": (1, 8)},
        {"flags": ()},
    ],
)
def test_whatever_decides_whether_an_engine_fits_changes_its_name(change):
    assert KEY.model_copy(update=change).stem != KEY.stem


def test_a_stored_engine_is_loaded_with_its_record(tmp_path):
    folder = tmp_path / "a" / "cache"
    path = store_engine(folder, PLAN, record())
    assert path.read_bytes() == PLAN
    assert load_engine(folder, KEY) == (PLAN, record())
    assert json.loads(path.with_suffix(".json").read_text())["key"]["gpu"] == "NVIDIA H200"
    assert sorted(file.suffix for file in folder.iterdir()) == [".engine", ".json"]


def test_another_keys_engine_is_not_taken(tmp_path):
    store_engine(tmp_path, PLAN, record())
    assert load_engine(tmp_path, KEY.model_copy(update={"tensorrt": "10.16.1.12"})) is None


def test_an_engine_without_its_record_counts_as_absent(tmp_path):
    store_engine(tmp_path, PLAN, record()).with_suffix(".json").unlink()
    assert load_engine(tmp_path, KEY) is None


def test_a_flipped_bit_a_shorter_file_and_a_record_of_another_key_are_refused(tmp_path):
    path = store_engine(tmp_path, PLAN, record())
    for damaged in (bytes([PLAN[0] ^ 1]) + PLAN[1:], PLAN[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(EngineFileError, match="not the engine that its record describes"):
            load_engine(tmp_path, KEY)
    path.write_bytes(PLAN)
    other = record(KEY.model_copy(update={"gpu": "NVIDIA H100"}))
    path.with_suffix(".json").write_text(other.model_dump_json())
    with pytest.raises(EngineFileError, match="not the engine"):
        load_engine(tmp_path, KEY)


@pytest.mark.parametrize("text", ["", "{", "[]", "x" * 70_000])
def test_a_record_that_is_none_is_refused_by_its_name(tmp_path, text):
    store_engine(tmp_path, PLAN, record()).with_suffix(".json").write_text(text)
    with pytest.raises(EngineFileError, match=rf"{KEY.stem}\.json"):
        load_engine(tmp_path, KEY)


def test_a_directory_that_anybody_may_write_to_is_refused(tmp_path):
    store_engine(tmp_path, PLAN, record())
    tmp_path.chmod(0o777)
    with pytest.raises(EngineFileError, match="others may write"):
        load_engine(tmp_path, KEY)
    with pytest.raises(EngineFileError, match="others may write"):
        store_engine(tmp_path, PLAN, record())


def test_another_users_directory_is_refused(tmp_path, monkeypatch):
    store_engine(tmp_path, PLAN, record())
    if tmp_path.stat().st_uid == 0:  # the superuser's directories are trusted, but it can give them away
        os.chown(tmp_path, 54_321, -1)
    else:
        monkeypatch.setattr("os.getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(EngineFileError, match="others may write"):
        load_engine(tmp_path, KEY)


def test_the_directory_that_is_made_is_its_owners_alone(tmp_path):
    prepare_cache(tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


def test_a_write_that_fails_leaves_what_was_there_and_no_part(tmp_path, monkeypatch):
    write_whole(tmp_path / "file", b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "file", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_removing_an_engine_removes_both_files_and_twice_is_no_fault(tmp_path):
    store_engine(tmp_path, PLAN, record())
    remove_engine(tmp_path, KEY)
    remove_engine(tmp_path, KEY)
    assert list(tmp_path.iterdir()) == []


def test_batches_are_read_in_ascending_order_only():
    assert parse_batches("1,8,32") == (1, 8, 32)
    for text in ("8,1", "1,1", "0,8", "1,5000", "", "one", "1,"):
        with pytest.raises(ConfigError, match="batches"):
            parse_batches(text)
    with pytest.raises(ValidationError, match="ascending"):
        EngineKey(**{**KEY.model_dump(), "batches": (8, 1)})


def test_the_default_directory_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in default_engine_cache().parents


def test_a_user_without_a_home_gets_the_systems_directory(monkeypatch):
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert default_engine_cache().is_absolute()
