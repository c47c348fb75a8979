import numpy as np
from click.testing import CliRunner

from bootleg_bundle.bundle import open_bundle
from bootleg_cli import main
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
