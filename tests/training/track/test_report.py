import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from bootleg_bundle.errors import DataError
from bootleg_bundle.manifest import Probe
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.probes.probe import record_probes
from bootleg_training.track.folder import read_run
from bootleg_training.track.report import render, write_report
from tests.training.track.runs import step_line, write_old_run, write_run

SPEC = PreprocessSpec(height=32, width=32)
VOID = {"meta", "img", "br", "hr", "input", "link"}
LOADING = {"src", "href", "xlink:href", "srcset", "poster", "data", "action"}


class Page(HTMLParser):
    """Tags, what they load, the visible text, and whether every tag is closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.open, self.words, self.images = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in LOADING]
        self.images += [dict(attrs)] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


def page_of(folder, pack=None, without=""):
    return Page(render(read_run(folder), pack, without))


def test_a_finished_run_s_page_has_all_its_parts(tmp_path, config, pack):
    write_run(tmp_path / "run", config, pack, SPEC)
    probe = Probe(probe="knn", dataset="tiny", value=0.5, random_init=0.25, detail="k = 20")
    record_probes(tmp_path / "run" / "checkpoint", [probe])
    page = page_of(tmp_path / "run", pack)
    for words in ("Is it learning?", "Schedule and machine", "Patch tokens", "Probes", "Settings", "Provenance"):
        assert words in page.text
    for words in ("bootleg", "ViT 32x3/4", "finished: 2 steps", "50.0 %", "25.0 %", "0123456789ab", "encoder.width"):
        assert words in page.text, words
    assert page.tags.count("svg") == 13
    assert page.tags.count("img") == 24
    assert all(image["alt"] for image in page.images)


def test_the_page_loads_nothing(tmp_path, config, pack):
    write_run(tmp_path / "run", config, pack, SPEC)
    html = render(read_run(tmp_path / "run"), pack)
    page = Page(html)
    assert all(load.startswith("data:image/png;base64,") for load in page.loads)
    written = re.sub(r"data:image/png;base64,[\w+/=]+", "", html)
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", written)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert "default-src 'none'" in html


def test_whatever_was_read_is_escaped(tmp_path, config, pack):
    folder = tmp_path / "run"
    write_run(folder, config, pack, SPEC, finished=False)
    evil = '<script>alert("&amp;")</script>'
    (folder / "config.json").write_text(
        json.dumps({**config.model_dump(mode="json"), "name": evil, evil: evil, "list": [evil]})
    )
    (folder / "began.json").write_text(json.dumps({"data": {"name": evil, "path": evil}, "versions": {evil: evil}}))
    html = render(read_run(folder), None, evil)
    assert "<script" not in html
    assert Page(html).text.count(evil) >= 6


def test_an_unfinished_run_s_page_says_how_far_it_is(tmp_path, config, pack):
    write_run(tmp_path / "run", config, pack, SPEC, finished=False)
    page = page_of(tmp_path / "run", pack)
    assert "step 2 of 12: stopped, or still running" in page.text
    assert "No pictures: " in page.text
    assert "neither a checkpoint nor a saved state" in page.text


def test_an_old_run_s_page(tmp_path):
    write_old_run(tmp_path / "run")
    page = page_of(tmp_path / "run", without="Give it with --data.")
    for words in ("Learning", "39.5 %", "untrained 22.5 %", "15.3", "finished: 8 steps", "Give it with --data."):
        assert words in page.text, words


@pytest.mark.parametrize("lines", [[], [step_line(1, loss=None, explained=[None, None])], [{"step": 3, "loss": 1.0}]])
def test_a_run_that_has_only_begun_has_a_page(tmp_path, lines):
    (tmp_path / "config.json").write_text('{"name": "begun", "batch_size": 8}')
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo')
    page = page_of(tmp_path)
    assert "No verdict yet" in page.text
    assert "1 damaged lines left out" in page.text
    assert not re.search(r"\b(nan|inf)\b", page.text)


def test_a_collapse_is_the_first_thing_one_reads(tmp_path):
    write_old_run(tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "encoder": "teacher", "knn": 0.1, "rank_me": 1.0}\n')
    page = page_of(tmp_path / "run")
    assert page.text.index("Collapsed") < page.text.index("Is it learning?")
    assert "rank vanished: RankMe 1.0 is 14 % of the untrained twin's 7.0" in page.text


def write_pack_of(pack, path):
    path.mkdir()
    np.save(path / "images.npy", pack.images)
    index = {
        "name": pack.name, "fingerprint": pack.fingerprint, "preprocess": pack.preprocess.model_dump(mode="json"),
        "classes": [], "labels": None, "files": [f"{place}.png" for place in range(len(pack.images))], "skipped": {},
    }  # fmt: skip
    (path / "pack.json").write_text(json.dumps(index))


def test_the_pack_that_the_run_began_with_is_found_again(tmp_path, config, pack):
    folder = tmp_path / "run"
    write_run(folder, config, pack, SPEC)
    out = tmp_path / "report.html"
    write_report(folder, out)
    assert "does not say where its pack is" in Page(out.read_text()).text
    began = json.loads((folder / "began.json").read_text())
    began["data"]["path"] = str(tmp_path / "pack")
    (folder / "began.json").write_text(json.dumps(began))
    write_report(folder, out)
    assert f"The pack at {tmp_path / 'pack'} cannot be read" in Page(out.read_text()).text
    write_pack_of(pack, tmp_path / "pack")
    assert write_report(folder, out) == out
    assert Page(out.read_text()).tags.count("img") == 24
    assert "not from the pack" not in out.read_text()


def test_pictures_of_another_pack_are_said_to_be(tmp_path, config, pack):
    write_run(tmp_path / "run", config, pack, SPEC)
    began = json.loads((tmp_path / "run" / "began.json").read_text())
    began["data"]["fingerprint"] = "another"
    (tmp_path / "run" / "began.json").write_text(json.dumps(began))
    assert "not from the pack that the run began with" in page_of(tmp_path / "run", pack).text


def test_a_pack_that_was_asked_for_must_be_one(tmp_path):
    write_old_run(tmp_path / "run")
    with pytest.raises(DataError, match="no pack"):
        write_report(tmp_path / "run", tmp_path / "report.html", tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_equal_runs_have_equal_pages(tmp_path, config, pack):
    write_run(tmp_path / "run", config, pack, SPEC)
    run = read_run(tmp_path / "run")
    assert render(run, pack) == render(run, pack)
