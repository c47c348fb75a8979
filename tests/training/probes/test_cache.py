import numpy as np
import pytest
import torch

from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training.config import EncoderConfig
from bootleg_training.probes import cache as module
from bootleg_training.probes.cache import FeatureCache, open_cache
from bootleg_training.vit import Encoder
from tests.training.tiny import ENCODER, tiny_pack

SPEC = PreprocessSpec(height=32, width=32)
PICTURES = tiny_pack(5, side=32).images


def encoder(seed=0, **changes):
    torch.manual_seed(seed)
    return Encoder(EncoderConfig(**{**ENCODER, **changes})).eval()


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache", precision="fp32")


def ask(cache, model=None, fingerprint="a", kinds=("mean", "patches"), spec=SPEC):
    return cache.features(model or encoder(), PICTURES, fingerprint, spec, kinds)


def test_what_was_computed_is_found_again(cache, monkeypatch):
    first = {kind: np.array(array) for kind, array in ask(cache).items()}
    assert (cache.hits, cache.computed) == (0, 2)
    monkeypatch.setattr(module, "stream_features", None)  # not callable: nothing may be computed
    second = ask(FeatureCache(cache.folder, precision="fp32"))
    for kind, array in second.items():
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, first[kind])


def test_only_what_is_missing_is_computed(cache):
    ask(cache, kinds=("mean",))
    ask(cache, kinds=("mean", "cls"))
    assert (cache.hits, cache.computed) == (1, 2)


def test_whatever_decides_the_features_is_part_of_the_key(cache):
    ask(cache, kinds=("mean",))
    ask(cache, encoder(seed=1), kinds=("mean",))
    ask(cache, fingerprint="b", kinds=("mean",))
    ask(cache, spec=PreprocessSpec(height=32, width=32, mean=(0.5, 0.5, 0.5)), kinds=("mean",))
    ask(FeatureCache(cache.folder, precision="bf16"), kinds=("mean",))
    assert cache.hits == 0
    assert len(list(cache.folder.glob("*.npy"))) == 5


def test_the_same_weights_with_other_heads_or_positions_are_another_encoder(cache):
    two_heads = encoder(heads=2)
    two_heads.load_state_dict(encoder().state_dict())
    shifted = encoder()
    shifted.positions_ND = shifted.positions_ND + 1
    for model in (encoder(), two_heads, shifted):
        ask(cache, model, kinds=("mean",))
    assert (cache.hits, cache.computed) == (0, 3)


def flip(data):
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        flip,
        lambda data: b"",
        lambda data: b"\x80\x04garbage",
        lambda data: data[:9],
    ],
    ids=["cut", "one bit", "empty", "no array", "header cut"],
)
def test_a_damaged_entry_is_counted_and_computed_again(cache, damage):
    expected = np.array(ask(cache, kinds=("mean",))["mean"])
    (path,) = cache.folder.glob("*.npy")
    path.write_bytes(damage(path.read_bytes()))
    np.testing.assert_array_equal(ask(cache, kinds=("mean",))["mean"], expected)
    assert cache.damaged == 1
    ask(cache, kinds=("mean",))
    assert (cache.hits, cache.damaged) == (1, 1)


def test_an_array_of_another_shape_is_not_believed(cache):
    ask(cache, kinds=("mean",))
    (path,) = cache.folder.glob("*.npy")
    rows = np.zeros((3, 32), np.float32)
    np.save(path, rows)
    path.with_suffix(".sha256").write_text(module._rows_sha256(rows))
    assert ask(cache, kinds=("mean",))["mean"].shape == (5, 32)
    assert cache.damaged == 1


def test_an_entry_without_its_hash_was_never_finished(cache):
    ask(cache, kinds=("mean",))
    next(cache.folder.glob("*.sha256")).unlink()
    ask(cache, kinds=("mean",))
    assert (cache.hits, cache.computed, cache.damaged) == (0, 2, 0)


def test_an_interruption_leaves_nothing_behind(cache, monkeypatch):
    def stopping(*arguments, **how):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "stream_features", stopping)
    with pytest.raises(KeyboardInterrupt):
        ask(cache)
    assert list(cache.folder.iterdir()) == []


def test_the_hash_does_not_depend_on_the_chunk(monkeypatch):
    rows = np.arange(60, dtype=np.float32).reshape(10, 6)
    whole = module._rows_sha256(rows)
    monkeypatch.setattr(module, "CHUNK", 100)
    assert module._rows_sha256(rows) == whole


def test_without_a_folder_the_features_live_as_long_as_they_are_used(tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    with open_cache(None, precision="fp32") as cache:
        assert ask(cache)["mean"].shape == (5, 32)
        assert cache.folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []
