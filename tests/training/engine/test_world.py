"""How the processes of a run end."""

import subprocess
import sys

import pytest

from bootleg_training.engine.world import World, leave

ENDING = """
import atexit, sys
from bootleg_training.engine.world import World, leave
atexit.register(lambda: print("the interpreter was taken down"))
sys.stdout.write("the last words, ")
leave(World(rank=0, size={size}), {code})
"""


@pytest.mark.parametrize("code", [0, 75])
def test_one_process_ends_as_any_program_does(code):
    with pytest.raises(SystemExit) as ended:
        leave(World(), code)
    assert ended.value.code == code


@pytest.mark.parametrize("code", [0, 75])
def test_one_of_several_says_its_last_words_and_is_gone(code):
    done = subprocess.run(
        [sys.executable, "-c", ENDING.format(size=2, code=code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert done.stdout == "the last words, "
