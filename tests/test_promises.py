"""docs/promises.md is true: every promise is there, and every test that is named there exists and is run."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "promises.md"
COUNTS = {"B": 8, "C": 12, "G": 7, "H": 8, "I": 10, "L": 6, "M": 5, "P": 4, "S": 5}
PROMISES = ["A", *(f"{group}{number}" for group, last in COUNTS.items() for number in range(1, last + 1))]
REST = re.compile(r"(GPU only|Docker only|not yet)(: [a-z0-9', ]+)?", re.IGNORECASE)

TEXT = PAGE.read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| ([A-Z]\d*) \| [^|]+ \| ([^|]+) \|$", TEXT, re.MULTILINE))
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)))


def existing_in(path):
    """Names of a file's tests, those that are never run left out."""
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not any("mark.skip" in ast.unparse(mark) or "xfail" in ast.unparse(mark) for mark in node.decorator_list)
    }


def test_every_promise_has_its_row_and_only_one():
    assert list(ROWS) == PROMISES
    assert len(re.findall(r"^\| [A-Z]\d* \|", TEXT, re.MULTILINE)) == len(PROMISES)


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_names_its_tests_or_says_plainly_what_it_lacks(promise):
    rest = re.sub(r"`[\w/]+\.py::\w+`", "", ROWS[promise]).strip()
    assert not rest or REST.fullmatch(rest), rest
    assert rest or "::" in ROWS[promise]


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_every_test_that_is_named_exists(path):
    missing = {name for where, name in NAMED if where == path} - existing_in(path)
    assert not missing


def test_nothing_in_backticks_looks_like_a_test_and_is_none():
    assert len(NAMED) > 120
    assert set(re.findall(r"`([^`]*::[^`]*)`", TEXT)) == {f"{path}::{name}" for path, name in NAMED}
