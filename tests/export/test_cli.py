import io
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from bootleg_bundle.bundle import open_bundle
from bootleg_cli import main
from bootleg_export import precisions
from bootleg_export.check import Check
from bootleg_export.check_table import show_table
from bootleg_export.parity import GATES, Gate
from tests.contract.doctor import change_golden


def bootleg(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_export_writes_a_bundle_and_prints_its_parity(quick_export, tiny_checkpoint, tmp_path):
    result = bootleg("export", tiny_checkpoint, "--out", tmp_path / "made")
    assert result.exit_code == 0, result.output
    assert open_bundle(tmp_path / "made").manifest.name == "made"
    assert "fp32 embedding: relative Frobenius" in result.output


def test_export_of_something_that_is_no_checkpoint_is_one_line_and_exit_2(tmp_path):
    result = bootleg("export", tmp_path, "--out", tmp_path / "made")
    assert result.exit_code == 2
    assert result.output.splitlines() == [f"Error: {tmp_path} is no checkpoint: it has no config.json"]


def test_export_into_a_directory_whose_name_no_model_may_have_is_one_line_and_exit_2(
    quick_export, tiny_checkpoint, tmp_path
):
    result = bootleg("export", tiny_checkpoint, "--out", tmp_path / "My Bundle")
    assert result.exit_code == 2, repr(result.exception)
    assert len(result.output.splitlines()) == 1


def test_verify_of_a_good_bundle_prints_a_line_for_each_check_and_exits_0(exported_bundle):
    result = bootleg("verify", exported_bundle)
    assert result.exit_code == 0
    assert [line[:4] for line in result.output.splitlines()] == ["ok  "] * 5


def test_verify_of_a_bundle_with_a_doctored_golden_output_exits_1(doctored):
    change_golden(doctored, "embedding", lambda array: array + np.float32(0.01))
    result = bootleg("verify", doctored)
    assert result.exit_code == 1
    assert [line for line in result.output.splitlines() if line.startswith("FAIL fp32 golden embedding")]


def test_verify_of_a_bundle_with_a_wrong_hash_exits_2(doctored):
    (doctored / "README.md").write_text("another card")
    result = bootleg("verify", doctored)
    assert result.exit_code == 2
    assert "README.md" in result.output


def test_a_precision_left_out_is_told_with_its_figure_and_the_exit_code_is_1(
    quick_export, tiny_checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setitem(precisions.OPSETS, "fp16", 20)
    monkeypatch.setitem(GATES, "fp16", Gate(1e-12, 1, 1, 0))
    result = bootleg("export", tiny_checkpoint, "--out", tmp_path / "made", "--precision", "fp16")
    assert result.exit_code == 1
    (line,) = [line for line in result.stderr.splitlines() if "not in the bundle" in line]
    assert line.startswith("fp16 is not in the bundle: embedding: relative Frobenius")
    assert set(open_bundle(tmp_path / "made").manifest.graphs) == {"fp32"}


def test_fp32_that_fails_leaves_nothing_and_exits_2_with_the_figure(
    quick_export, tiny_checkpoint, tmp_path, monkeypatch
):
    monkeypatch.setitem(GATES, "fp32", Gate(1e-12, 1, 1, 0))
    result = bootleg("export", tiny_checkpoint, "--out", tmp_path / "made")
    assert result.exit_code == 2
    assert "fp32 embedding: relative Frobenius" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_several_sizes_are_a_bundle_each(tiny_checkpoint, tmp_path):
    result = bootleg("export", tiny_checkpoint, "--out", tmp_path / "made", "--size", "32,40")
    assert result.exit_code == 0, result.output
    made = {path.name: open_bundle(path).manifest for path in tmp_path.iterdir()}
    assert {name: (manifest.name, manifest.preprocess.height) for name, manifest in made.items()} == {
        "made-32px": ("made-32px", 32),
        "made-40px": ("made-40px", 40),
    }
    assert len({manifest.embedding_space for manifest in made.values()}) == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--precision", "int8-dynamic"], "dynamic int8 is not offered"),
        (["--precision", "int8"], "--calibration"),
        (["--size", "big"], "'big' is no whole number"),
        (["--size", "32,32"], "twice"),
        (["--size", "33"], "size 33 is no multiple"),
    ],
)
def test_options_that_make_no_sense_are_one_line_and_exit_2(tiny_checkpoint, tmp_path, options, says):
    result = bootleg("export", tiny_checkpoint, "--out", tmp_path / "made", *options)
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    assert says in result.output
    assert list(tmp_path.iterdir()) == []


def test_verify_scores_on_labelled_images_when_they_are_named(full_bundle, labelled):
    result = bootleg("verify", full_bundle.path, "--data", labelled[0], "--test", labelled[1])
    assert result.exit_code == 0, result.output
    assert "ok   int8 knn on score" in result.stdout


def test_verify_needs_images_to_learn_from(exported_bundle):
    result = bootleg("verify", exported_bundle, "--test", "somewhere")
    assert result.exit_code == 2
    assert "--data" in result.output


def test_verify_on_labelled_images_without_torch_says_what_to_install(exported_bundle, monkeypatch):
    for module in ("verify_tasks", "labelled", "mask_tasks", "tasks"):
        monkeypatch.delitem(sys.modules, f"bootleg_export.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it raises
    result = bootleg("verify", exported_bundle, "--data", "somewhere")
    assert result.exit_code == 2
    assert "--data needs torch" in result.output
    assert "bootleg-vision[training]" in result.output


def test_on_a_terminal_the_checks_are_a_table():
    text = io.StringIO()
    checks = [Check("hashes", passed=True, detail="3 files"), Check("golden [x]", passed=False, detail="far off")]
    assert not show_table(checks, Console(file=text, force_terminal=True, width=100))
    last = text.getvalue()
    assert "golden [x]" in last
    assert "FAIL" in last
    assert show_table(checks[:1], Console(file=io.StringIO()))
