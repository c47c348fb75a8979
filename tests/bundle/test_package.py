"""``bootleg_bundle`` needs numpy, Pillow and pydantic alone."""

import pkgutil
import subprocess
import sys

import bootleg_bundle

MODULES = ["bootleg_bundle", *(f"bootleg_bundle.{m.name}" for m in pkgutil.iter_modules(bootleg_bundle.__path__))]
HEAVY = ["torch", "onnx", "onnxruntime", "fastapi", "click", "rich", "safetensors"]


def test_every_module_imports_without_torch_and_the_other_rooms():
    script = f"""
import importlib, sys
for name in {[*HEAVY, "bootleg_service", "bootleg_training", "bootleg_export"]}:
    sys.modules[name] = None  # importing it raises
for name in {MODULES}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_front_page_exports_what_it_says():
    for name in bootleg_bundle.__all__:
        assert hasattr(bootleg_bundle, name)
