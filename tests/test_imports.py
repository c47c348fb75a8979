"""The import rules of the house, read from every module's syntax tree, and torch blocked for real."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests import images

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "bootleg_bundle": ROOT / "bundle" / "bootleg_bundle",
    "bootleg_cli": ROOT / "bundle" / "bootleg_cli",
    "bootleg_training": ROOT / "training" / "bootleg_training",
    "bootleg_export": ROOT / "export" / "bootleg_export",
    "bootleg_service": ROOT / "service" / "bootleg_service",
    "bootleg_client": ROOT / "service" / "bootleg_client",
    "bootleg_embed": ROOT / "service" / "bootleg_embed",
    "bootleg_search": ROOT / "service" / "bootleg_search",
}
ALLOWED = {
    "bootleg_bundle": (),
    "bootleg_cli": ("bootleg_bundle",),
    "bootleg_training": ("bootleg_bundle",),
    # Besides the model: the reader of packs, for calibration; probes and heads, for what a precision costs on a task.
    "bootleg_export": (
        "bootleg_bundle",
        *(
            f"bootleg_training.{name}"
            for name in ("vit", "checkpoint", "resize", "data", "probes", "heads", "progress")
        ),
    ),
    "bootleg_service": ("bootleg_bundle",),
    "bootleg_client": ("bootleg_bundle",),
    "bootleg_embed": ("bootleg_bundle", "bootleg_client", "bootleg_service"),
    "bootleg_search": ("bootleg_client",),
}
# Builds an engine on the machine that serves, and proves it with the very session that will run it; never torch.
ENGINE_BUILDER = "bootleg_export.tensorrt"
ENGINE_BUILDER_ALSO = (
    "bootleg_service.engine",
    "bootleg_service.errors",
    "bootleg_service.masks.heads",
    "bootleg_service.tensorrt",
)
FORBIDDEN = ("pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal", "timm", "torchvision")
TORCH_ONLY_IN = {"bootleg_training", "bootleg_export"}


def modules():
    """Every module of ours: its dotted name and its file."""
    for package, folder in PACKAGES.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), file


def imports(name, file):
    """What a module imports, by name and line; a relative import is resolved, ``from a import b`` gives ``a.b``."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*anchor, *([base] if base else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


EDGES = [(name, target, file, line) for name, file in modules() for target, line in imports(name, file)]


def within(target, prefix):
    return target == prefix or target.startswith(prefix + ".")


def shown(edges):
    return [f"{file.relative_to(ROOT)}:{line}: {name} imports {target}" for name, target, file, line in edges]


def test_the_tree_is_seen():
    names = {name for name, _ in modules()}
    assert len(names) > 40
    assert {"bootleg_bundle.images", "bootleg_training.engine.loop", "bootleg_service.app", "bootleg_cli"} <= names
    assert any(target == "torch" for _, target, _, _ in EDGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_imports_only_the_rooms_it_may(package):
    offending = [
        edge
        for edge in EDGES
        if within(edge[0], package)
        and any(within(edge[1], ours) for ours in PACKAGES)
        and not any(within(edge[1], allowed) for allowed in (package, *ALLOWED[package]))
        and not (within(edge[0], ENGINE_BUILDER) and any(within(edge[1], also) for also in ENGINE_BUILDER_ALSO))
    ]
    assert not offending, shown(offending)


@pytest.mark.parametrize("forbidden", FORBIDDEN)
def test_nothing_imports_what_is_forbidden_everywhere(forbidden):
    offending = [edge for edge in EDGES if within(edge[1], forbidden)]
    assert not offending, shown(offending)


def test_only_training_and_export_import_torch():
    offending = [edge for edge in EDGES if within(edge[1], "torch") and edge[0].split(".")[0] not in TORCH_ONLY_IN]
    assert not offending, shown(offending)


def test_the_engine_builder_works_where_there_is_no_torch():
    offending = [
        edge
        for edge in EDGES
        if within(edge[0], ENGINE_BUILDER) and any(within(edge[1], room) for room in ("torch", "bootleg_training"))
    ]
    assert not offending, shown(offending)


def test_nothing_is_unpickled_by_way_of_another_library():
    offending = []
    for _, file in modules():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            function = ast.unparse(node.func)
            unsafe = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords)
            if function == "torch.load" and {"weights_only=True"} <= {ast.unparse(k) for k in node.keywords}:
                continue  # foreign weights come as torch files; this reads tensors and nothing that runs
            if unsafe or function in {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load"}:
                offending.append(f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not offending, offending


SERVE_WITHOUT_TORCH = """
import pathlib, sys
for name in ("torch", "bootleg_training", "bootleg_export", "onnx", "safetensors"):
    sys.modules[name] = None  # importing it raises
from starlette.testclient import TestClient
from bootleg_bundle import open_bundle
from bootleg_service.app import create_app
from bootleg_service.settings import EngineSettings, Settings

bundle = open_bundle(pathlib.Path(sys.argv[1]))
app = create_app(bundle, Settings(engine=EngineSettings(device="cpu", threads=1)))
with TestClient(app) as client:
    answer = client.post(
        "/v1/images/embeddings", content=pathlib.Path(sys.argv[2]).read_bytes(), headers={"content-type": "image/png"}
    )
assert answer.status_code == 200, answer.text
print(len(answer.json()["data"][0]["embedding"]))
"""


def test_the_service_imports_and_answers_where_torch_cannot_be_imported(tiny_bundle, tmp_path):
    (tmp_path / "image.png").write_bytes(images.png())
    done = subprocess.run(
        [sys.executable, "-c", SERVE_WITHOUT_TORCH, str(tiny_bundle.path), str(tmp_path / "image.png")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == tiny_bundle.manifest.outputs.dim
