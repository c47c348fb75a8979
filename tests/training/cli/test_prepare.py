"""``bootleg prepare`` as it is called."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from bootleg_cli import main
from bootleg_training.data.pack import open_pack
from tests import images
from tests.training.data.files import pictures, write, write_tar


def prepare(*arguments):
    return CliRunner().invoke(main, ["prepare", *[str(a) for a in arguments]], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path):
    files = {f"{kind}/{name}": data for start, kind in ((0, "dark"), (50, "light"))
             for name, data in pictures(20, start=start).items()}  # fmt: skip
    return write(tmp_path / "data", files)


def test_a_folder_becomes_a_pack_and_its_numbers_are_printed(folder, tmp_path):
    result = prepare(folder, "--out", tmp_path / "pack", "--size", 16, "--name", "day and night")
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'pack'}: 40 images of 16 x 16, 2 classes; 0 left out" in result.stdout
    index = json.loads((tmp_path / "pack" / "pack.json").read_text())
    mean, std = (", ".join(f"{number:.4f}" for number in index[key]) for key in ("mean", "std"))
    assert f"channel mean {mean}; standard deviation {std} (of pixels / 255)" in result.stdout
    assert "recommended preset: none with CUDA, none without" in result.stdout
    assert "byte-identical" not in result.stderr
    assert "prepare 40/40" in result.stderr
    assert open_pack(tmp_path / "pack").name == "day and night"


def test_a_preset_is_recommended_for_enough_images(tmp_path):
    files = {f"{n:03}.png": images.png(images.scene(seed=0)) for n in range(130)}
    result = prepare(write(tmp_path / "data", files), "--out", tmp_path / "pack", "--size", 32)
    assert "recommended preset: cpu-smoke with CUDA, cpu-smoke without" in result.stdout


def test_what_was_left_out_is_reported(folder, tmp_path):
    (folder / "dark" / "bad.png").write_bytes(images.png()[:100])
    result = prepare(folder, "--out", tmp_path / "pack", "--size", 16)
    assert result.exit_code == 0
    assert "40 images of 16 x 16, 2 classes; 1 left out" in result.stdout
    assert "left out dark/bad.png: " in result.stderr


@pytest.mark.parametrize(
    ("options", "line", "summary"),
    [
        ([], "44 images of 16 x 16, 2 classes; 0 left out", "kept; --drop-duplicates leaves them out"),
        (["--drop-duplicates"], "40 images of 16 x 16, 2 classes; 4 left out", "in 1 groups: left out"),
    ],
)
def test_byte_identical_files_are_summarised(folder, tmp_path, options, line, summary):
    for n in range(4):
        write(folder, {f"light/twin{n}.png": (folder / "light" / "003.png").read_bytes()})
    result = prepare(folder, "--out", tmp_path / "pack", "--size", 16, *options)
    assert line in result.stdout
    assert "4 repeat another file byte for byte, in 1 groups" in result.stdout
    assert summary in result.stdout
    assert "byte-identical: light/003.png, light/twin0.png, light/twin1.png and 2 more" in result.stderr


def test_too_many_corrupt_files_are_refused_unless_they_are_allowed(folder, tmp_path):
    write(folder, {f"dark/bad{n}.png": b"no" for n in range(3)})
    refused = prepare(folder, "--out", tmp_path / "pack", "--size", 16)
    assert refused.exit_code == 2
    assert "3 of the first " in refused.stderr
    assert "of all 43, --max-corrupt 0.05 allows 2" in refused.stderr
    assert "dark/bad0.png: " in refused.stderr
    assert not (tmp_path / "pack").exists()
    allowed = prepare(folder, "--out", tmp_path / "pack", "--size", 16, "--max-corrupt", 0.1)
    assert allowed.exit_code == 0
    assert "3 left out" in allowed.stdout


def test_archives_are_named_by_a_pattern(tmp_path):
    for shard in range(3):
        write_tar(tmp_path / f"{shard}.tar", pictures(2, start=10 * shard))
    result = prepare(f"{tmp_path}/{{0..2}}.tar", "--out", tmp_path / "pack", "--size", 16)
    assert "6 images of 16 x 16, no labels" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none is no folder, tar archive, list, or hf:NAME:SPLIT"),
        (["data", "--size", "7"], "7"),
        (["data", "--max-corrupt", "1.5"], "1.5"),
        (["data", "--out", "data"], "data exists already"),
        ([], "Missing argument 'SOURCE'"),
    ],
)
def test_a_refusal_has_no_traceback_and_exit_code_2(folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = prepare("--out", "pack", "--size", 16, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "pack").exists()


def test_preparing_needs_no_torch(folder, tmp_path):
    arguments = ["prepare", str(folder), "--out", str(tmp_path / "pack"), "--size", "16"]
    blocked = f"import sys; sys.modules['torch'] = None; from bootleg_cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(open_pack(tmp_path / "pack").images) == 40
