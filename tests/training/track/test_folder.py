import json

import pytest

from bootleg_bundle.errors import DataError
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.track.folder import read_run
from tests.training.track.runs import write_old_run, write_run

SPEC = PreprocessSpec(height=32, width=32)


def test_a_finished_run_is_read(tmp_path, config, pack):
    write_run(tmp_path / "run", config, pack, SPEC)
    run = read_run(tmp_path / "run")
    assert (run.name, run.layers, run.batch_size, run.steps, run.done) == ("bootleg", (1, 2, 3), 8, 12, 2)
    assert run.twin.step == 0
    assert [check.step for check in run.teacher] == [0, 2]
    assert run.checkpoint["provenance"]["dataset"] == "tiny"
    verdict = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (run.verdict().level, run.verdict().rule) == (verdict["verdict"], verdict["rule"])


def test_an_old_run_is_judged_by_today_s_rules(tmp_path):
    write_old_run(tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert run.record.steps[0]["explained"] == [0.5, 0.25]
    assert run.verdict().level == "ok"
    assert run.checkpoint == run.began == {}


def test_a_run_that_has_only_begun_has_no_verdict(tmp_path):
    (tmp_path / "config.json").write_text('{"batch_size": 8}')
    run = read_run(tmp_path)
    assert run.verdict() is None
    assert (run.done, run.steps, run.layers, run.name) == (0, None, (), tmp_path.name)


def test_no_run_folder_is_refused(tmp_path, config, pack):
    write_run(tmp_path / "run", config, pack, SPEC)
    for folder in (tmp_path, tmp_path / "none", tmp_path / "run" / "checkpoint"):
        with pytest.raises(DataError, match="no run folder"):
            read_run(folder)


@pytest.mark.parametrize(("content", "message"), [("{", "no JSON"), ("[]", "no JSON object")])
def test_a_broken_file_is_named(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(DataError, match=rf"config.json .*{message}"):
        read_run(tmp_path)
