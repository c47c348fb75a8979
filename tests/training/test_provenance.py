import importlib.metadata
import platform
import re

from bootleg_training import provenance


def test_versions_are_those_installed():
    versions = provenance.versions()
    assert versions["python"] == platform.python_version()
    for name in provenance.PACKAGES:
        assert versions[name] == importlib.metadata.version(name)


def test_the_commit_is_a_hash_or_unknown():
    assert re.fullmatch(r"[0-9a-f]{12}(\+changes)?|unknown", provenance.commit())


def test_outside_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.commit() == "unknown"


def test_the_hardware_has_a_name():
    assert provenance.hardware().strip()
