"""``bootleg doctor``: every line can turn bad, and nothing broken ends in a traceback."""

import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from bootleg_training.cli.doctor import doctor, guarded
from bootleg_training.doctor import machine, place, software
from bootleg_training.doctor.line import Line
from tests import images


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(place, "SECONDS", 0.01)
    monkeypatch.setattr(machine, "SECONDS", 0.01)
    monkeypatch.setitem(machine.SIDES, "cpu", 64)


def without(monkeypatch, *packages):
    real = software._version
    monkeypatch.setattr(software, "_version", lambda name: None if name in packages else real(name))


def test_a_report_has_every_part_and_a_level_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "arithmetic", lambda: [Line("ok", "matrices on cpu", "fp32 1 GFLOP/s")])
    monkeypatch.setattr(place, "disk", lambda free, folder: Line("ok", "disk", "plenty"))
    monkeypatch.setattr(software, "imports", lambda: [Line("ok", "imports", "all")])
    result = CliRunner().invoke(doctor, [str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = result.stdout.splitlines()
    assert {row.split()[0] for row in rows} <= {"ok", "warn"}
    for part in ("python", "bootleg-vision", "torch", "extra training", "processor", "memory", "CUDA", "compiler",
                 "matrices on cpu", "disk", "decode", "imports"):  # fmt: skip
        assert any(row[6:].startswith(part) for row in rows), part


def test_something_bad_is_exit_code_1(tmp_path, monkeypatch):
    for name in ("lines", "imports"):
        monkeypatch.setattr(software, name, list)
    monkeypatch.setattr(machine, "lines", list)
    result = CliRunner().invoke(doctor, [str(tmp_path / "none")])
    assert result.exit_code == 1
    assert result.stdout == f"bad   folder: {tmp_path / 'none'} is no folder (name one that exists)\n"


def test_a_failing_check_is_a_line(tmp_path, monkeypatch):
    def broken():
        raise OSError("the disk is on fire")

    monkeypatch.setattr(machine, "lines", broken)
    monkeypatch.setattr(software, "imports", list)
    result = CliRunner().invoke(doctor, [str(tmp_path)])
    assert result.exit_code == 1
    assert "bad   machine: the check failed: OSError: the disk is on fire" in result.stdout
    assert "decode" in result.stdout


def test_a_missing_module_is_answered_with_the_line_to_install():
    def check():
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    assert guarded("machine", check) == [
        Line("bad", "machine", "torch is not installed", "pip install 'bootleg-vision[training]'")
    ]


def test_it_works_without_torch_and_rich(tmp_path):
    script = f"""
import sys
sys.modules["torch"] = sys.modules["rich"] = None
from bootleg_training.cli.doctor import doctor
doctor([{str(tmp_path)!r}])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr, done.stderr
    assert "bad   machine: torch is not installed (pip install 'bootleg-vision[training]')" in done.stdout
    assert "decode" in done.stdout


# ---- software


def test_a_missing_package_is_bad_and_a_missing_extra_is_not(monkeypatch):
    without(monkeypatch, "torch", "fastapi")
    found = {line.name: line for line in software.lines()}
    assert found["torch"] == Line("bad", "torch", "not installed", "pip install 'bootleg-vision[training]'")
    assert found["extra training"].level == "bad"
    assert found["extra service"].level == "ok"
    assert found["extra service"].value == "absent: fastapi"
    assert "pip install 'bootleg-vision[service]'" in found["extra service"].advice
    assert "extra dev" not in found


def test_an_extra_within_an_extra_counts(monkeypatch):
    without(monkeypatch, "fastapi", "onnxruntime-gpu")
    assert "fastapi" in software.extras()["cpu"]
    assert {"fastapi", "onnxruntime-gpu"} <= set(software.extras()["gpu"])


@pytest.mark.parametrize(
    ("requirement", "name", "extra"),
    [
        ("torch>=2.6; extra == 'training'", "torch", "training"),
        ('bootleg-vision[service]; extra == "cpu"', "bootleg-vision", "cpu"),
        ("onnxruntime-gpu[cuda,cudnn]>=1.21; extra == 'gpu'", "onnxruntime-gpu", "gpu"),
        ("ray>=2; (python_version < '3.14') and extra == 'ray'", "ray", "ray"),
        ("click>=8.1", "click", None),
        ("x>=1; python_version < '3.12'", "x", None),
    ],
)
def test_requirements_are_read(requirement, name, extra):
    match = software._REQUIREMENT.match(requirement)
    assert (match["name"], match["extra"]) == (name, extra)


def test_two_runtimes_are_a_warning(monkeypatch):
    monkeypatch.setattr(software, "_version", lambda name: "1")
    assert [line.name for line in software.lines() if line.level == "warn"] == ["onnxruntime"]


def test_a_module_that_cannot_be_imported_is_named(monkeypatch):
    class Module:
        name = "bootleg_training.nonsense"

    monkeypatch.setattr(software.pkgutil, "walk_packages", lambda *_, **__: [Module])
    (line,) = software.imports()
    assert line.level == "bad"
    assert "bootleg_training.nonsense" in line.name
    assert "ModuleNotFoundError" in line.value


def test_an_import_of_torchvision_is_bad(monkeypatch):
    class Module:
        name = "bootleg_training.config"

    monkeypatch.setattr(software.pkgutil, "walk_packages", lambda *_, **__: [Module])
    assert software.imports()[0].level == "ok"
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(software.importlib, "import_module", lambda name: sys.modules.setdefault("torchvision", torch))
    try:
        assert "torchvision" in software.imports()[0].value
    finally:
        sys.modules.pop("torchvision", None)


# ---- machine


@pytest.mark.parametrize(
    ("free", "level"), [(None, "ok"), (2**29, "bad"), (2**30, "warn"), (4 * 2**30, "ok"), (10**12, "ok")]
)
def test_memory_is_judged(free, level):
    assert machine.memory(free).level == level


def test_more_threads_than_cores_is_a_warning(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(machine.torch, "get_num_threads", lambda: 8)
    (line,) = machine.cpu()
    assert line.level == "warn"
    assert "OMP_NUM_THREADS=2" in line.advice


def test_a_driver_that_torch_cannot_use_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert machine.cuda() == [Line("ok", "CUDA", "no card")]
    text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 2024\n"
    (tmp_path / "version").write_text(text)
    (line,) = machine.cuda()
    assert line.level == "warn"
    assert "driver 550.54.15" in line.value
    assert "built with CUDA" in line.advice


def test_cards_are_described(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "none")
    for name, value in {
        "is_available": True, "device_count": 2, "mem_get_info": (3 * 2**30, 16 * 2**30), "get_device_name": "Card",
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: ((7, 5), (9, 0))[number])
    old, new = machine.cuda()
    assert (old.name, old.level, new.level) == ("CUDA 0", "warn", "ok")
    assert "precision=fp32" in old.advice
    assert "3.0 GiB of 16.0 GiB free" in new.value


@pytest.mark.parametrize(("has_cuda", "level"), [(True, "warn"), (False, "ok")])
def test_a_missing_compiler_matters_with_cuda(monkeypatch, has_cuda, level):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert machine.compiler().level == level
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/g++" if name == "g++" else None)
    assert machine.compiler().level == "ok"


@pytest.mark.parametrize(("bf16", "level"), [(50e9, "warn"), (200e9, "ok")])
def test_a_slow_bf16_is_a_warning(monkeypatch, bf16, level):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "matrix_rate", lambda _, dtype: bf16 if dtype == torch.bfloat16 else 100e9)
    (line,) = machine.arithmetic()
    assert line.level == level
    assert "fp32 100 GFLOP/s" in line.value


def test_a_rate_is_measured():
    assert machine.matrix_rate("cpu", torch.float32) > 0


# ---- place


@pytest.mark.parametrize(("free", "level"), [(2**29, "bad"), (2**30, "warn"), (10 * 2**30, "ok")])
def test_disk_is_judged(free, level, tmp_path):
    assert place.disk(free, tmp_path).level == level


def test_images_of_the_folder_are_decoded(tmp_path):
    (tmp_path / "nested").mkdir()
    (tmp_path / "nested" / "A.JPG").write_bytes(images.jpeg())
    (tmp_path / "b.png").write_bytes(images.png())
    (tmp_path / "notes.txt").write_text("no image")
    (line,) = place.decoding(tmp_path)
    assert line.level == "ok"
    assert "2 images of" in line.value


def test_corrupt_images_are_counted_once(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_bytes(images.png()[:60])
    good, failed = place.rate(place.sample(tmp_path), 2)
    assert good == 0
    assert 2 <= failed <= 3  # two threads, at least one file each
    (line,) = place.decoding(tmp_path)
    assert line.level == "warn"
    assert "could not be decoded" in line.advice


def test_a_sample_is_bounded(tmp_path, monkeypatch):
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(images.png())
    monkeypatch.setattr(place, "SAMPLE", 4)
    assert len(place.sample(tmp_path)) == 4
    monkeypatch.setattr(place, "SAMPLE_BYTES", 1)
    assert len(place.sample(tmp_path)) == 1


def test_hidden_folders_are_left_alone_and_looking_ends(tmp_path, monkeypatch):
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "a.png").write_bytes(images.png())
    assert place.sample(tmp_path) == []
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(images.png())
    monkeypatch.setattr(place, "LOOKED_AT", 3)
    assert len(place.sample(tmp_path)) == 3


def test_without_images_some_are_made(tmp_path):
    (line,) = place.decoding(tmp_path)
    assert "made-up JPEGs" in line.value
    assert len({*place.made()}) == place.MADE
