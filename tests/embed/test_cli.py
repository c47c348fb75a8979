"""The command, in processes of its own: formats, kills, signals, exit codes."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from bootleg_cli import main
from bootleg_embed.cli import SOME_FAILED, STOPPED
from tests import bundles, images
from tests.training.data.files import write_tar

SLOW = """
import functools, sys, time
import bootleg_embed.local as local, bootleg_embed.run as run
rows = local.LocalBackend.rows
local.LocalBackend.rows = lambda self, prepared: (time.sleep(0.05), rows(self, prepared))[1]
run.Options = functools.partial(run.Options, commit_seconds=0)
from bootleg_cli import main
main(sys.argv[1:])
"""


def embed(source, out, bundle, *options):
    """Run the command here."""
    arguments = ["embed", str(source), "--out", str(out), "--bundle", str(bundle.path), "--device", "cpu"]
    return CliRunner().invoke(
        main, [*arguments, "--threads", "1", "--batch", "4", *map(str, options)], catch_exceptions=False
    )


def begun(source, out, bundle, images_done):
    """A process that embeds slowly, when its journal has counted so many images."""
    arguments = ["embed", source, "--out", out, "--bundle", bundle.path, "--device", "cpu", "--threads", "1"]
    command = [sys.executable, "-c", SLOW, *map(str, arguments), "--batch", "4"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = out.with_name(out.name + ".partial") / "journal.json"
    for _ in range(6000):
        if journal.is_file() and json.loads(journal.read_bytes())["done"] >= images_done:
            return process
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("it does not begin")


def test_a_folder_becomes_an_array_and_a_line_for_each_image(pictures, tmp_path, tiny_bundle):
    result = embed(pictures, tmp_path / "a.npy", tiny_bundle)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{tmp_path / 'a.npy'}: 48 rows, 0 failed, ")
    assert result.stdout.rstrip().endswith("images/s")
    vectors = np.load(tmp_path / "a.npy")
    items = [json.loads(line) for line in (tmp_path / "a.items.jsonl").read_text().splitlines()]
    assert vectors.dtype == np.float32
    for item, vector in zip(items, vectors, strict=True):
        scene = images.scene(8, 8, seed=int(item["id"][2:5]))
        np.testing.assert_allclose(vector, bundles.reference(scene[None])["embedding"][0], rtol=1e-5)
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["identity"]["embedding_space"] == tiny_bundle.manifest.embedding_space
    assert record["identity"]["model_sha256"] == tiny_bundle.sha256
    assert not (tmp_path / "a.npy.partial").exists()


@pytest.mark.parametrize("moment", [0, 4, 20, 40])
def test_killed_and_run_again_it_gives_the_same_bytes(pictures, tmp_path, tiny_bundle, moment):
    embed(pictures, tmp_path / "whole.npy", tiny_bundle)
    process = begun(pictures, tmp_path / "a.npy", tiny_bundle, moment)
    process.kill()
    process.communicate()
    assert not (tmp_path / "a.npy").exists()
    result = embed(pictures, tmp_path / "a.npy", tiny_bundle)
    assert result.exit_code == 0, result.output
    assert "going on after" in result.stderr or moment == 0
    for end in (".npy", ".items.jsonl"):
        assert (tmp_path / f"a{end}").read_bytes() == (tmp_path / f"whole{end}").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_says_how_to_go_on(pictures, tmp_path, tiny_bundle, number):
    process = begun(pictures, tmp_path / "a.npy", tiny_bundle, 4)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == STOPPED, errors
    assert "run the same command again to go on" in errors
    assert "Traceback" not in errors
    assert embed(pictures, tmp_path / "a.npy", tiny_bundle).exit_code == 0


def test_failed_images_are_told_by_the_exit_code(pictures, tmp_path, tiny_bundle):
    (pictures / "0" / "broken.png").write_bytes(images.png()[:-30])
    (pictures / "1" / "nothing.jpg").write_bytes(b"")
    result = embed(pictures, tmp_path / "a.npy", tiny_bundle)
    assert result.exit_code == SOME_FAILED, result.output
    assert ": 50 rows, 2 failed, " in result.stdout
    assert np.isnan(np.load(tmp_path / "a.npy")).any(axis=1).sum() == 2
    again = embed(pictures, tmp_path / "a.npy", tiny_bundle)
    assert again.exit_code == SOME_FAILED
    assert "complete already" in again.stdout


def test_too_many_failed_images_are_one_line_and_exit_2(pictures, tmp_path, tiny_bundle):
    for number in range(8):
        (pictures / f"{number}.png").write_bytes(b"no image")
    result = embed(pictures, tmp_path / "a.npy", tiny_bundle)
    assert result.exit_code == 2
    assert "--max-corrupt 0.05 allows 2" in result.stderr.replace("\n", " ")
    assert embed(pictures, tmp_path / "a.npy", tiny_bundle, "--max-corrupt", "0.5").exit_code == SOME_FAILED


def test_another_model_does_not_go_on_with_anothers_work(pictures, tmp_path, tiny_bundle):
    process = begun(pictures, tmp_path / "a.npy", tiny_bundle, 4)
    process.kill()
    process.communicate()
    other = bundles.write_tiny_bundle(tmp_path / "other", name="other")
    result = embed(pictures, tmp_path / "a.npy", other)
    assert result.exit_code == 2
    assert "with model = tiny where this run has other" in result.stderr


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("output", "row"), [("embedding", (6,)), ("layers", (2, 6)), ("patches", (2, 2, 6))])
def test_outputs_and_types_into_a_folder(pictures, tmp_path, tiny_bundle, output, row, dtype):
    result = embed(pictures, tmp_path / "out", tiny_bundle, "--output", output, "--dtype", dtype)
    assert result.exit_code == 0, result.output
    vectors = np.load(tmp_path / "out" / "embeddings.npy", mmap_mode="r")
    assert (vectors.shape, vectors.dtype) == ((48, *row), dtype)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"embeddings.npy", "items.jsonl", "embed.json"}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_parquet_holds_everything(pictures, tmp_path, tiny_bundle, dtype):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs bootleg-vision[parquet]")
    (pictures / "0" / "000.png").write_bytes(b"broken")
    assert embed(pictures, tmp_path / "a.npy", tiny_bundle, "--dtype", dtype).exit_code == SOME_FAILED
    assert embed(pictures, tmp_path / "b.parquet", tiny_bundle, "--dtype", dtype).exit_code == SOME_FAILED
    table = parquet.read_table(tmp_path / "b.parquet")
    assert table.column_names == ["id", "embedding", "error", "embedding_space"]
    vectors = np.load(tmp_path / "a.npy")
    assert table["embedding"].to_pylist()[1:] == vectors[1:].tolist()
    assert table["embedding"].null_count == 1
    assert "no accepted image format" in table["error"][0].as_py()
    assert table["id"][1].as_py() == "0/003.png"
    assert set(table["embedding_space"].to_pylist()) == {tiny_bundle.manifest.embedding_space}
    assert json.loads(table.schema.metadata[b"bootleg"])["row"] == [6]


def test_archives_lists_and_parquet_give_the_folders_vectors(pictures, tmp_path, tiny_bundle):
    files = sorted(pictures.rglob("*.png"), key=lambda path: path.relative_to(pictures).parts)
    write_tar(tmp_path / "a.tar", {path.relative_to(pictures).as_posix(): path.read_bytes() for path in files})
    (tmp_path / "a.csv").write_text("path\n" + "\n".join(str(path) for path in files))
    sources = [pictures, tmp_path / "a.tar", tmp_path / "a.csv"]
    arrow = pytest.importorskip("pyarrow", reason="needs bootleg-vision[parquet]")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs bootleg-vision[parquet]")
    parquet.write_table(arrow.table({"image": [path.read_bytes() for path in files]}), tmp_path / "a.parquet")
    sources.append(tmp_path / "a.parquet")
    found = []
    for number, source in enumerate(sources):
        result = embed(source, tmp_path / f"{number}.npy", tiny_bundle)
        assert result.exit_code == 0, result.output
        found.append(np.load(tmp_path / f"{number}.npy"))
    for vectors in found[1:]:
        np.testing.assert_array_equal(vectors, found[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--url", "http://127.0.0.1:9"], "--bundle and --url"),
        (["--precision", "int8"], "int8"),
        (["--batch", "0"], "--batch"),
        (["--max-corrupt", "2"], "--max-corrupt"),
        (["--output", "cls"], "--output"),
        (["--workers", "2"], "--workers 2: only with --engine ray"),
    ],
)
def test_what_cannot_be_is_refused_by_name(pictures, tmp_path, tiny_bundle, options, words):
    result = embed(pictures, tmp_path / "a.npy", tiny_bundle, *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.parametrize(
    ("missing", "options", "extra"),
    [
        ("onnxruntime", [], "cpu"),
        ("httpx", ["--url", "http://127.0.0.1:9"], "client"),
        ("ray", ["--engine", "ray"], "ray"),
    ],
)
def test_a_missing_extra_answers_with_the_line_to_install(pictures, tmp_path, missing, options, extra):
    code = f"import sys; sys.modules[{missing!r}] = None; from bootleg_cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "embed", str(pictures), "--out", str(tmp_path / "a.npy"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"pip install 'bootleg-vision[{extra}]'" in done.stderr
    assert missing in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_imports_no_model_runtime_and_no_client():
    heavy = ["torch", "onnxruntime", "httpx", "pyarrow", "ray", "bootleg_service", "bootleg_client"]
    code = "import sys; from bootleg_cli import main\n"
    code += f"try: main(['embed', '--help'])\nfinally: print('imported:', [n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--max-corrupt" in done.stdout
    assert "imported: []" in done.stdout
