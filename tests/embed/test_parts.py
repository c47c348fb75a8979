"""Parts without a cluster: how a source is cut, what a worker writes and refuses, what a folder must be."""

import json

import numpy as np
import pytest

from bootleg_bundle.errors import ConfigError, DataError
from bootleg_bundle.sources import open_source
from bootleg_bundle.sources.base import listing_fingerprint
from bootleg_embed.parts import worker
from bootleg_embed.parts.check import check_and_record
from bootleg_embed.parts.cli import compose
from bootleg_embed.parts.partition import Excerpt, Partition, listings
from bootleg_embed.parts.plan import claimed, missing, recorded
from bootleg_embed.parts.worker import MAX_ATTEMPTS, PartEmbedder
from bootleg_service.engine import Engine
from tests import bundles, images
from tests.embed.made_up import Numbers
from tests.embed.ray_workers import ENGINE, WANTED

parquet = pytest.importorskip("pyarrow.parquet", reason="needs bootleg-vision[parquet]")


@pytest.fixture
def composed(pictures, tmp_path, tiny_bundle):
    """A job over 48 images in parts of 8, its source, and each part's listing."""
    return compose(str(pictures), tmp_path / "out", tiny_bundle.path, ENGINE, WANTED)


def work(job, prints, parts):
    """What an actor answers."""
    tasks = {"part": np.array(parts), "listing": np.array([prints[part] for part in parts], object)}
    return PartEmbedder(job)(tasks)


@pytest.mark.parametrize(("images_", "per_part"), [(1, 4), (4, 4), (9, 4), (1000, 7)])
def test_every_image_is_in_one_part(images_, per_part):
    partition = Partition(images_, per_part)
    parts = [partition.numbers(part) for part in range(len(partition))]
    assert [number for numbers in parts for number in numbers] == list(range(images_))
    assert {len(numbers) for numbers in parts[:-1]} <= {per_part}
    assert sorted(names := [partition.name(part) for part in range(len(partition))]) == names


def test_more_parts_than_a_million_are_refused():
    with pytest.raises(ConfigError, match=r"--part-images 1 makes 1,000,001 parts"):
        Partition(1_000_001, 1)


def test_a_listing_is_of_its_part_alone():
    before, after = Numbers(100), Numbers(101)
    partition = Partition(100, 8)
    assert listings(before, partition) == listings(after, partition)
    assert len(set(listings(before, partition))) == len(partition)
    assert Excerpt(before, range(5, 9))[2] == before[7]


def test_parts_are_the_same_bytes_in_any_order_and_at_any_pace(composed, tmp_path, monkeypatch):
    job, source, prints = composed
    with claimed(job.folder, job.plan):
        answers = work(job, prints, [5, 0, 3, 1, 4, 2])
    assert answers["fault"].tolist() == [""] * 6
    first = {path.name: path.read_bytes() for path in job.folder.glob("part-*")}
    for path in job.folder.glob("part-*"):
        path.unlink()
    monkeypatch.setattr(worker.math, "inf", 0.0)  # commits after each batch
    work(job, prints, range(6))
    assert {path.name: path.read_bytes() for path in job.folder.glob("part-*")} == first
    record = check_and_record(job.folder, job.plan, source)
    assert (record.parts, record.rows, record.failed) == (6, 48, 0)
    assert recorded(job.folder, job.plan) == record


def test_a_part_that_is_there_is_not_computed_again(composed, monkeypatch):
    job, _, prints = composed
    with claimed(job.folder, job.plan):
        work(job, prints, [1])
    assert missing(job.folder, job.plan) == [0, 2, 3, 4, 5]
    monkeypatch.setattr(Engine, "run", None)
    assert work(job, prints, [1])["fault"].tolist() == [""]


def test_a_worker_that_sees_other_images_or_another_bundle_refuses(composed, pictures, tmp_path):
    job, _, prints = composed
    job.folder.mkdir()
    (pictures / "1" / "001.png").write_bytes(images.png())
    faults = work(job, prints, range(6))["fault"].tolist()
    assert [bool(fault) for fault in faults] == [False, False, True, False, False, False]
    assert "lists other images or sizes here" in faults[2]
    (pictures / "1" / "001.png").unlink()
    assert "holds 47 images here and 48 where" in work(job, prints, [2])["fault"][0]
    other = bundles.write_tiny_bundle(tmp_path / "other", name="other")
    job, _, prints = compose(str(pictures), tmp_path / "out", other.path, ENGINE, WANTED)
    changed = job.plan.model_copy(update={"identity": job.plan.identity.model_copy(update={"model_sha256": "0" * 64})})
    stranger = worker.Job(job.source, tmp_path / "new", changed, job.bundle, job.engine, job.wanted)
    stranger.folder.mkdir()
    assert "the bundle other is another one here" in work(stranger, prints, [0])["fault"][0]
    assert not list(stranger.folder.iterdir())


def test_a_part_at_which_workers_die_again_and_again_is_named(composed):
    job, _, prints = composed
    with claimed(job.folder, job.plan):
        pass
    for number in range(MAX_ATTEMPTS):
        (job.folder / f"_part-000003.parquet.{number}.unfinished").touch()
    assert f"{MAX_ATTEMPTS} workers died at images 24 to 31" in work(job, prints, [3])["fault"][0]
    assert work(job, prints, [4])["fault"][0] == ""
    with claimed(job.folder, job.plan):  # the next run tries anew
        assert work(job, prints, [3])["fault"][0] == ""


@pytest.mark.parametrize("change", ["source", "model", "output", "part_images", "batch"])
def test_a_folder_of_another_run_is_refused_by_the_name_of_what_differs(composed, change):
    job, _, _ = composed
    with claimed(job.folder, job.plan):
        pass
    if change in {"part_images", "batch"}:
        other, words = job.plan.model_copy(update={change: 16}), f"was begun with --{change.replace('_', '-')} "
    else:
        identity = job.plan.identity.model_copy(update={change: "another"})
        other, words = job.plan.model_copy(update={"identity": identity}), f"with {change} = "
    with pytest.raises(DataError, match=words), claimed(job.folder, other):
        pass


def test_what_is_no_folder_of_parts_or_in_use_is_refused(composed):
    job, _, _ = composed
    job.folder.mkdir()
    (job.folder / "embeddings.npy").touch()
    with pytest.raises(DataError, match="holds files that are no parts"), claimed(job.folder, job.plan):
        pass
    (job.folder / "embeddings.npy").unlink()
    second = claimed(job.folder, job.plan)
    with claimed(job.folder, job.plan), pytest.raises(DataError, match="being written by another"):
        second.__enter__()
    (job.folder / "_plan.json").write_text("{}")
    with pytest.raises(DataError, match=r"_plan.json is damaged"), claimed(job.folder, job.plan):
        pass


@pytest.mark.parametrize(
    ("fault", "words"),
    [("gone", "is missing"), ("cut", "is damaged"), ("swapped", "no part of this run"), ("renamed", "in the place of")],
)
def test_the_count_at_the_end_finds(composed, pictures, fault, words):
    job, source, prints = composed
    with claimed(job.folder, job.plan):
        work(job, prints, range(6))
    path = job.folder / "part-000002.parquet"
    if fault == "gone":
        path.unlink()
    elif fault == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif fault == "swapped":
        path.write_bytes((job.folder / "part-000003.parquet").read_bytes())
    else:
        table = parquet.read_table(path)
        parquet.write_table(table.take([1, 0, *range(2, 8)]), path)
    with pytest.raises(DataError, match=words):
        check_and_record(job.folder, job.plan, source)
    assert recorded(job.folder, job.plan) is None


@pytest.mark.parametrize(
    ("out", "changed", "words"),
    [("a.npy", {}, "leave the .npy away"), ("out", {"part_images": 30}, "no multiple of --batch 4; 28 is")],
)
def test_options_that_do_not_fit_are_refused(pictures, tmp_path, tiny_bundle, out, changed, words):
    with pytest.raises(ConfigError, match=words):
        compose(str(pictures), tmp_path / out, tiny_bundle.path, ENGINE, WANTED._replace(**changed))


def test_faults_are_listed_with_their_rows(composed, pictures, tmp_path, tiny_bundle):
    (pictures / "1" / "001.png").write_bytes(b"no image")
    job, source, prints = compose(str(pictures), tmp_path / "out", tiny_bundle.path, ENGINE, WANTED)
    with claimed(job.folder, job.plan):
        assert work(job, prints, range(6))["failed"].tolist() == [0, 0, 1, 0, 0, 0]
        assert check_and_record(job.folder, job.plan, source).failed == 1
    (line,) = (job.folder / "_faults.jsonl").read_text().splitlines()
    fault = json.loads(line)
    assert (fault["row"], fault["id"], fault["status"]) == (16, "1/001.png", "failed")
    assert listing_fingerprint(open_source(pictures)) == listing_fingerprint(Excerpt(source, range(48)))
