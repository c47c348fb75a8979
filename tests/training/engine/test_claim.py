"""One process a run folder: asked in two processes, as the lock is one of processes."""

import subprocess
import sys

import pytest

from bootleg_bundle.errors import ConfigError
from bootleg_training.engine.claim import claimed

HOLD = """
import sys
from pathlib import Path
from bootleg_training.engine.claim import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_until_the_first_is_gone_however_it_went(tmp_path, holder):
    with pytest.raises(ConfigError, match="another process trains in"), claimed(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with claimed(tmp_path):
        pass


def test_a_file_system_without_locks_is_no_reason_to_stop(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError("no locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with claimed(tmp_path):
        pass
