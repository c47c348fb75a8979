"""Two real processes joined by gloo, against one: same order, same loss, states that cross."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from bootleg_bundle.sources import open_source
from bootleg_training.data.prepare import write_pack
from bootleg_training.engine.progress import Progress
from bootleg_training.engine.resume import load_state
from bootleg_training.engine.trainer import Trainer
from tests import images
from tests.training.tiny import CPU, ENCODER, tiny_config

SETTINGS = {
    "images": 48,
    "batch_size": 8,
    "precision": "fp32",
    "log_every": 1,
    "probe_every": 1000,
    "save_every": 3,
    "optim": {"base_lr": 0.02},
}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    for seed in range(20):
        (folder / "images" / f"{seed:02d}.png").write_bytes(images.png(images.scene(40, 40, seed=seed)))
    write_pack(open_source(folder / "images"), folder / "pack", 40, progress=lambda items, total: items)
    return folder / "pack"


def command(packed, out, *arguments, processes=1, **settings):
    fields = {**{f"encoder.{k}": v for k, v in ENCODER.items()}, **SETTINGS, **settings}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [
        sys.executable,
        *(launcher if processes > 1 else []),
        *("-m", "bootleg_cli", "train", "--data", str(packed), "--out", str(out), "--preset", "cpu-smoke"),
        *("--device", "cpu", *arguments),
        *(f"--set={key}={json.dumps(value)}" for key, value in fields.items()),
    ]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def trained(packed, out, *arguments, **options):
    done = subprocess.run(
        command(packed, out, *arguments, **options), env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(packed, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    return out, trained(packed, out)


@pytest.mark.parametrize("cut", ["--no-shard", "--shard"])
def test_two_processes_train_as_one_and_their_state_is_picked_up_by_one(packed, alone, tmp_path, cut):
    out, lines = alone
    two = trained(packed, tmp_path / "two", cut, processes=2)
    steps, two_steps = ([line for line in record if "loss" in line] for record in (lines, two))
    assert [line["step"] for line in two_steps] == [line["step"] for line in steps] == list(range(1, 7))
    for one, both in zip(steps, two_steps, strict=True):
        assert both["loss"] == pytest.approx(one["loss"], abs=2e-5)
        assert both["loss_per_layer"] == pytest.approx(one["loss_per_layer"], abs=2e-5)
    whole, joined = (load_file(run / "state/step-000000006/state.safetensors") for run in (out, tmp_path / "two"))
    assert set(whole) == set(joined)
    for name, tensor in whole.items():
        torch.testing.assert_close(joined[name], tensor, rtol=2e-3, atol=2e-5)
    # Back to one process from the state in the middle: the end is the same.
    (tmp_path / "two/state/latest").write_text("step-000000003")
    (tmp_path / "two/checkpoint").rename(tmp_path / "checkpoint-of-two")
    trained(packed, tmp_path / "two")
    crossed = load_file(tmp_path / "two/state/step-000000006/state.safetensors")
    for name, tensor in whole.items():
        torch.testing.assert_close(crossed[name], tensor, rtol=2e-3, atol=2e-5)


def test_a_state_of_one_process_is_picked_up_by_two(packed, alone, tmp_path):
    trained(packed, tmp_path / "run")
    (tmp_path / "run/state/latest").write_text("step-000000003")
    (tmp_path / "run/checkpoint").rename(tmp_path / "other")
    trained(packed, tmp_path / "run", "--shard", processes=2)
    whole, crossed = (load_file(r / "state/step-000000006/state.safetensors") for r in (alone[0], tmp_path / "run"))
    for name, tensor in whole.items():
        torch.testing.assert_close(crossed[name], tensor, rtol=2e-3, atol=2e-5)


def test_a_batch_that_two_processes_cannot_share_is_refused(packed, tmp_path):
    done = subprocess.run(
        command(packed, tmp_path / "run", processes=2, batch_size=9),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "batch_size = 9: it must be a multiple of accumulate (1) times the number of processes (2)" in done.stderr
    assert "Traceback" not in done.stderr.split("torch/distributed")[0]


def test_a_kill_at_any_moment_leaves_a_state_that_loads(packed, tmp_path):
    """SIGKILL at a dozen moments of a run that saves after every step; each start goes on from a whole state."""
    out, reached = tmp_path / "run", 0
    config = tiny_config(**{**SETTINGS, "images": 80_000, "save_every": 1, "name": "cpu-smoke"})
    for delay in (0.02, 0.05, 0.11, 0.17):
        process = subprocess.Popen(
            command(packed, out, images=80_000, save_every=1), env=ENVIRONMENT, stderr=subprocess.DEVNULL
        )
        pointer, before = out / "state" / "latest", reached
        try:
            while process.poll() is None and (not pointer.is_file() or _step(pointer) <= before + 2):
                time.sleep(0.005)
            assert process.poll() is None
            time.sleep(delay)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        trainer = Trainer(config, CPU)
        loaded = load_state(
            out / "state", trainer.model, trainer.optimiser, config, allow=frozenset({"augment", "predictor"})
        )
        assert loaded is not None
        progress, _ = loaded
        assert isinstance(progress, Progress)
        assert progress.step > before
        assert progress.images == 8 * progress.step
        assert all(p.isfinite().all() for p in trainer.model.parameters())
        reached = progress.step


def _step(pointer):
    return int(pointer.read_text().removeprefix("step-"))
