"""A kill at any moment loses nothing and doubles nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("out", ["a.npy", "folder", "a.parquet"])
def test_a_run_killed_at_any_touch_of_the_disk_resumes_to_the_same_bytes(tmp_path, out):
    if out == "a.parquet":
        pytest.importorskip("pyarrow", reason="needs bootleg-vision[parquet]")
    command = [sys.executable, "-m", "tests.embed.crash", str(tmp_path), out]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20  # three groups, each with five flushes and renames, and the two ends
