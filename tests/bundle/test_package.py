"""``bootleg_bundle`` needs numpy, Pillow and pydantic alone."""

import pkgutil
import subprocess
import sys

import bootleg_bundle

COMMAND = "bootleg_bundle.cli"  # the one module that needs click
MODULES = ["bootleg_bundle", *(m.name for m in pkgutil.walk_packages(bootleg_bundle.__path__, "bootleg_bundle."))]
HEAVY = ["torch", "onnx", "onnxruntime", "fastapi", "click", "rich", "safetensors", "huggingface_hub", "datasets"]


def test_every_module_is_seen():
    assert {COMMAND, "bootleg_bundle.transfer.web", "bootleg_bundle.sources.hub"} <= set(MODULES)


def test_every_module_imports_without_torch_and_the_other_rooms():
    script = f"""
import importlib, sys
for name in {[*HEAVY, "bootleg_service", "bootleg_training", "bootleg_export"]}:
    sys.modules[name] = None  # importing it raises
for name in {[name for name in MODULES if name != COMMAND]}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_front_page_exports_what_it_says():
    for name in bootleg_bundle.__all__:
        assert hasattr(bootleg_bundle, name)
