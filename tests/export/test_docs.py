"""What ``docs/export.md`` says of gates and options is what the code has."""

import re
from dataclasses import astuple
from pathlib import Path

import pytest

from bootleg_bundle.cli import bundle
from bootleg_bundle.transfer.retry import DEFAULT_POLICY
from bootleg_bundle.transfer.web import TRANSIENT
from bootleg_export.cli import export, verify
from bootleg_export.parity import GATES

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())


@pytest.mark.parametrize("precision", GATES)
def test_the_page_states_each_gate(precision):
    (row,) = re.findall(rf"^\| {precision} \|((?: [\d.e-]+ \|){{4}})$", PAGE, re.MULTILINE)
    assert [float(cell) for cell in row.split("|")[:-1]] == list(astuple(GATES[precision]))


def test_the_page_names_every_option_and_no_other():
    commands = [export, verify, *bundle.commands.values()]
    options = {name for command in commands for option in command.params for name in option.opts if name[:2] == "--"}
    ours = PAGE.partition("\n## TensorRT\n")[0]  # that part tells of other commands
    ours = re.sub(r"<!-- results:.*?<!-- /results -->", "", ours, flags=re.DOTALL)  # a table's command is a benchmark's
    named = set(re.findall(r"--[a-z][a-z0-9-]+", ours)) - {"--bundle"}  # of `bootleg serve`
    assert named == options - {"--help"}


def test_the_page_states_how_patient_a_transfer_is():
    *others, last = map(str, sorted(TRANSIENT))
    assert f"statuses {', '.join(others)} and {last} are tried again" in WORDS
    policy = DEFAULT_POLICY
    assert f"{policy.attempts} times in a row without a new byte, after {policy.first_wait} s" in WORDS
    assert f"up to {policy.longest_wait:.0f} s, spread by chance; `Retry-After` is honoured up to" in WORDS
    assert f"up to {policy.longest_asked:.0f} s." in WORDS
