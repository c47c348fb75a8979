import numpy as np
import pytest

from bootleg_bundle.errors import ConfigError
from bootleg_training.config import MaskConfig
from bootleg_training.masking import sample_ijepa, sample_masks, sample_uniform

UNIFORM, IJEPA = MaskConfig(), MaskConfig(sampler="ijepa")


def rng(seed=0):
    return np.random.Generator(np.random.Philox(key=[seed, 0]))


def draw(config, grid=8, batch=64, count=40):
    source = rng()
    return [sample_masks(config, grid, batch, source) for _ in range(count)]


def coverage(masks, grid):
    """How often each patch is a target, ``[g, g]``; a patch in two rectangles of an image counts once."""
    hits, drawn = np.zeros(grid * grid), 0
    for m in masks:
        hidden = np.zeros((len(m.rectangles), grid * grid), bool)
        np.put_along_axis(hidden, m.rectangles.reshape(len(hidden), -1), values=True, axis=1)
        hits += hidden.sum(axis=0)
        drawn += len(hidden)
    return (hits / drawn).reshape(grid, grid)


@pytest.mark.parametrize(
    ("config", "grid"),
    # I-JEPA's own sampler drops the rule where too little is left, as it often is at 8 x 8.
    [(UNIFORM, 8), (UNIFORM, 14), (MaskConfig(thinning="random"), 8), (IJEPA, 14)],
)
def test_visible_and_target_patches_never_meet(config, grid):
    for m in draw(config, grid, count=5):
        for seen, rectangles in zip(m.visible, m.rectangles, strict=True):
            assert not set(seen) & set(rectangles.ravel())
            assert len(set(seen)) == len(seen)
            assert (np.diff(seen) > 0).all()
            assert seen.min() >= 0
            assert max(seen.max(), rectangles.max()) < grid**2


@pytest.mark.parametrize("config", [UNIFORM, IJEPA])
@pytest.mark.parametrize("grid", [8, 14])
def test_every_target_is_a_rectangle_in_raster_order(config, grid):
    for m in draw(config, grid, batch=4, count=20):
        for rectangle in m.rectangles.reshape(-1, m.rectangles.shape[2]):
            rows, columns = np.unique(rectangle // grid), np.unique(rectangle % grid)
            assert (np.diff(rows) == 1).all()
            assert (np.diff(columns) == 1).all()
            np.testing.assert_array_equal(rectangle, (rows[:, None] * grid + columns).ravel())


@pytest.mark.parametrize(
    ("grid", "visible", "sizes"), [(8, 19, range(8, 13)), (14, 59, range(25, 43)), (7, 15, range(6, 13))]
)
def test_uniform_sizes_are_those_of_the_method(grid, visible, sizes):
    shapes = [(m.visible.shape[1], m.rectangles.shape[2]) for m in draw(UNIFORM, grid, batch=2, count=200)]
    assert {v for v, _ in shapes} == {visible}
    assert {t for _, t in shapes} <= set(sizes)
    assert len({t for _, t in shapes}) >= 3


def test_scale_and_aspect_are_independent_in_uniform_and_tied_in_ijepa():
    def shapes(config):
        found = set()
        for m in draw(config, 14, batch=1, count=400):
            first = m.rectangles[0, 0]
            found.add((len(np.unique(first // 14)), len(np.unique(first % 14))))
        return found

    assert {(h, w) for h, w in shapes(IJEPA) if h * w > 38} <= {(7, 6), (8, 5)}
    assert len(shapes(UNIFORM)) > 1.5 * len(shapes(IJEPA))


@pytest.mark.parametrize("grid", [8, 14])
def test_uniform_hides_as_much_as_the_method_simulated(grid):
    seen = coverage(draw(UNIFORM, grid, count=80), grid)
    assert seen.mean() == pytest.approx(0.47, abs=0.02)
    corners = [seen[0, 0], seen[0, -1], seen[-1, 0], seen[-1, -1]]
    low, high = {8: (0.11, 0.80), 14: (0.05, 0.86)}[grid]
    assert np.mean(corners) == pytest.approx(low, abs=0.03)
    assert seen.max() == pytest.approx(high, abs=0.04)


def test_uniform_targets_every_patch_and_prefers_no_side():
    seen = coverage(draw(UNIFORM, 8, count=300), 8)
    assert seen.min() > 0.05
    for flipped in (seen[::-1], seen[:, ::-1]):
        assert np.abs(seen - flipped).max() < 0.03
    assert np.abs(seen - seen.T).max() < 0.06  # sizes differ per batch, so fewer independent draws


def test_ijepa_never_targets_the_last_row_and_column():
    seen = coverage(draw(IJEPA, 8), 8)
    assert not seen[-1].any()
    assert not seen[:, -1].any()
    assert (seen[:-1, :-1] > 0).all()


@pytest.mark.parametrize("thinning", ["scan", "random"])
def test_uniform_visible_patches_prefer_no_side(thinning):
    masks = draw(MaskConfig(thinning=thinning), 8, count=120)
    seen = np.bincount(np.concatenate([m.visible.ravel() for m in masks]), minlength=64).reshape(8, 8)
    share = seen / seen.sum()
    assert share[:4].sum() == pytest.approx(0.5, abs=0.01)
    assert share[:, :4].sum() == pytest.approx(0.5, abs=0.01)
    assert seen.min() > 0


def test_ijepa_visible_patches_lie_high_as_in_the_published_code():
    masks = draw(IJEPA, 14, batch=128, count=10)
    seen = np.concatenate([m.visible.ravel() for m in masks])
    assert (seen < 98).mean() == pytest.approx(0.81, abs=0.04)


def test_ijepa_shows_the_published_share():
    masks = draw(IJEPA, 14, batch=64, count=40)
    assert np.mean([m.visible.shape[1] for m in masks]) / 196 == pytest.approx(0.27, abs=0.03)


@pytest.mark.parametrize("config", [UNIFORM, IJEPA])
def test_masks_differ_per_image_and_per_draw_and_repeat_with_the_seed(config):
    one, again, other = (sample_masks(config, 8, 16, rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.visible, again.visible)
    np.testing.assert_array_equal(one.rectangles, again.rectangles)
    assert len({row.tobytes() for row in one.rectangles}) > 12
    assert len({row.tobytes() for row in one.visible}) > 12
    assert not np.array_equal(one.rectangles[:, :, 0], other.rectangles[:, :, 0])


def test_scanned_patches_are_contiguous_and_scattered_ones_are_not():
    def neighbours(config):
        total = 0
        for m in draw(config, 8, count=20):
            grid = np.zeros((len(m.visible), 64), bool)
            np.put_along_axis(grid, m.visible, values=True, axis=1)
            grid = grid.reshape(-1, 8, 8)
            total += (grid[:, 1:] & grid[:, :-1]).sum() + (grid[:, :, 1:] & grid[:, :, :-1]).sum()
        return total

    assert neighbours(UNIFORM) > 1.2 * neighbours(MaskConfig(thinning="random"))


def test_settings_that_leave_too_little_free_are_refused_with_their_numbers():
    with pytest.raises(ConfigError, match=r"4 rectangles of \d+ x \d+ leave fewer than 61 of 64"):
        sample_uniform(MaskConfig(visible=0.95), 8, 4, rng())


def test_ijepa_gives_up_constraints_rather_than_never_ending():
    crowded = MaskConfig(sampler="ijepa", scale=(0.6, 0.7))
    m = sample_ijepa(crowded, 8, 4, rng())
    assert m.visible.shape[1] > 10


def test_without_thinning_only_the_batchs_fewest_free_patches_bound_what_is_seen():
    config = MaskConfig(thinning="none")
    masks = sample_uniform(config, 14, 64, rng())
    free = [196 - len(np.unique(rectangles)) for rectangles in masks.rectangles]
    assert masks.visible.shape[1] == min(free) > round(0.30 * 196)
    for seen, rectangles in zip(masks.visible, masks.rectangles, strict=True):
        assert not np.intersect1d(seen, rectangles).size
