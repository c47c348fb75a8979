from click.testing import CliRunner

from bootleg_training.cli.report import report
from tests.training.track.runs import write_old_run


def test_the_page_lies_in_the_run_folder_unless_told(tmp_path):
    write_old_run(tmp_path / "run")
    there = tmp_path / "there.html"
    for arguments, target in (([], tmp_path / "run" / "report.html"), (["--out", str(there)], there)):
        done = CliRunner().invoke(report, [str(tmp_path / "run"), *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert done.output.strip() == str(target)
        assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_its_help_names_what_it_takes():
    said = CliRunner().invoke(report, ["--help"]).output
    assert "--data" in said
    assert "--out" in said
