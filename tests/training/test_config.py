"""Settings and their composition: what is refused, and that the refusal names key and value."""

import pytest
from pydantic import ValidationError

from bootleg_bundle.errors import ConfigError
from bootleg_training.compose import compose
from bootleg_training.config import EncoderConfig, RunConfig, default_layers


def composed(*settings, file=None, preset="nano"):
    return compose(preset, file, settings)


@pytest.mark.parametrize(
    ("depth", "layers"),
    [
        (6, (1, 2, 4, 6)),
        (9, (1, 3, 6, 9)),
        (12, (1, 4, 8, 12)),
        (24, (1, 8, 16, 24)),
        (32, (1, 11, 21, 32)),
        (3, (1, 2, 3)),
        (2, (1, 2)),
        (1, (1,)),
    ],
)
def test_default_layers_are_first_thirds_and_last(depth, layers):
    assert default_layers(depth) == layers


def test_a_resolved_configuration_derives_what_was_left_open():
    config = RunConfig(encoder=EncoderConfig(width=384, depth=12, heads=6), images=256 * 100_000).resolved()
    assert (config.predictor.width, config.predictor.depth, config.predictor.heads) == (192, 10, 6)
    assert config.target.layers == (1, 4, 8, 12)
    assert config.optim.ema_start == pytest.approx(0.996)
    assert config.resolved() == config


def test_what_was_set_is_not_derived():
    config = RunConfig(
        predictor={"width": 64, "depth": 3, "heads": 2}, target={"layers": (2, 12)}, optim={"ema_start": 0.5}
    )
    assert config.resolved() == config


@pytest.mark.parametrize(("depth", "predictor"), [(12, 10), (9, 8), (6, 5), (3, 2), (1, 2), (24, 10)])
def test_the_predictor_has_ten_twelfths_of_the_depth_and_never_more_than_ten_blocks(depth, predictor):
    assert RunConfig(encoder={"depth": depth}).resolved().predictor.depth == predictor


@pytest.mark.parametrize(("steps", "start"), [(100, 0.99), (10_000, 0.99), (20_000, 0.995), (10**6, 0.996)])
def test_the_teachers_horizon_is_a_hundredth_of_the_run_within_bounds(steps, start):
    assert RunConfig(images=steps * 256).resolved().optim.ema_start == pytest.approx(start)


def test_the_length_in_steps_covers_every_image():
    assert RunConfig(images=1000, batch_size=256).steps == 4
    assert RunConfig(images=1024, batch_size=256).steps == 4


def test_tokens_follow_from_the_sizes():
    shape = EncoderConfig(image_size=64, patch_size=8, registers=3)
    assert (shape.grid, shape.patches, shape.global_tokens) == (8, 64, 4)
    assert EncoderConfig(cls_token=False, registers=0).global_tokens == 0


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().seed = 3


def test_a_setting_reaches_its_place():
    config = composed("optim.base_lr=2e-3", "mask.scale=[0.1,0.2]", "name=mine", "target.layers=[1,6]", "seed=7")
    assert config.optim.base_lr == 2e-3
    assert config.mask.scale == (0.1, 0.2)
    assert config.name == "mine"
    assert config.target.layers == (1, 6)
    assert config.seed == 7


def test_settings_win_over_the_file_and_the_file_over_the_preset(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("seed: 5\nbatch_size: 64\noptim: {clip: 1.0}\n")
    config = composed("seed=6", file=file)
    assert (config.seed, config.batch_size, config.optim.clip) == (6, 64, 1.0)
    assert config.encoder == composed().encoder


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("optim.base_lr=-1", "optim.base_lr", "-1"),
        ("optim.base_lr=fast", "optim.base_lr", "fast"),
        ("optim.base_lr=", "optim.base_lr", "None"),
        ("optim.warmup=1", "optim.warmup", "1"),
        ("optim.ema_end=1.5", "optim.ema_end", "1.5"),
        ("images=0", "images", "0"),
        ("batch_size=2.5", "batch_size", "2.5"),
        ("seed=-1", "seed", "-1"),
        ("seed=99999999999999999999", "seed", "9223372036854775808"),
        ("precision=fp8", "precision", "fp8"),
        ("mask.visible=0", "mask.visible", "0"),
        ("mask.visible=1.5", "mask.visible", "1.5"),
        ("mask.sampler=blocks", "mask.sampler", "blocks"),
        ("mask.scale=[0.1,0.2,0.3]", "mask.scale", "0.3"),
        ("mask=7", "mask", "7"),
        ("target.loss=cosine", "target.loss", "cosine"),
        ("target.layers=[]", "target.layers", r"\(\)"),
        ("target.layers=[1,7]", "target.layers", "7"),
        ("target.layers=[2,1]", "target.layers", r"\(2, 1\)"),
        ("target.layers=[1,1]", "target.layers", r"\(1, 1\)"),
        ("target.layers=[0,1]", "target.layers", "0"),
        ("encoder.patch_size=5", "patch_size", "5"),
        ("encoder.heads=3", "heads", "3"),
        ("encoder.width=130", "width", "130"),
        ("encoder.registers=-1", "encoder.registers", "-1"),
        ("optim.lr=1", "optim.lr", "1"),
        ("learning_rate=1", "learning_rate", "1"),
        ("optim.base_lr.peak=1", "optim.base_lr", "peak"),
        ("encoder.patch_size=8", "grid", "4 x 4"),
    ],
)
def test_a_bad_setting_is_refused_by_key_and_value(setting, key, value):
    with pytest.raises(ConfigError, match=key) as caught:
        composed(setting)
    assert caught.match(value)


@pytest.mark.parametrize(
    "setting",
    [
        "mask.scale=[0.2,0.15]",
        "mask.aspect=[1.5,0.75]",
        "mask.aspect=[0,1]",
        "mask.aspect=[-1,1]",
        "augment.scale=[1.0,0.3]",
        "augment.aspect=[0,1]",
        "optim.betas=[0.9,1.0]",
        "optim.betas=[-0.1,0.9]",
        "optim.base_lr=.inf",
        "optim.clip=.nan",
        "predictor.width=30",
        "predictor.heads=5",
    ],
)
def test_a_setting_that_can_only_fail_later_is_refused_at_once(setting):
    with pytest.raises(ConfigError, match=setting.partition("=")[0].rpartition(".")[2]):
        composed(setting)


def test_a_derived_predictor_that_cannot_be_built_is_refused_at_once():
    with pytest.raises(ConfigError, match="predictor"):
        composed("encoder.width=36", "encoder.heads=3")  # half of 36 is no multiple of 4


def test_a_grid_on_which_ijepas_sampler_never_ends_is_refused_at_once():
    # On 4 x 4 its largest context has 9 patches and it wants more than 10, whatever it draws.
    with pytest.raises(ConfigError, match="4 x 4"):
        composed("mask.sampler=ijepa", "encoder.image_size=16")


@pytest.mark.parametrize("setting", ["seed", "seed 3", ""])
def test_a_setting_without_a_value_is_refused_with_the_form(setting):
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        composed(setting)


@pytest.mark.parametrize("setting", ["mask.scale=[0.1", "name={", "name='x"])
def test_a_value_that_is_no_yaml_is_refused(setting):
    with pytest.raises(ConfigError, match=setting.partition("=")[0]):
        composed(setting)


@pytest.mark.parametrize("text", ["- a\n- b\n", "seven", "", "mask: [", "\0"])
def test_a_file_that_is_no_mapping_is_refused_by_its_name(tmp_path, text):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        composed(file=file)


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("optim.bass_lr=1", "optim.base_lr"),
        ("optim.lr=1", "optim.base_lr"),
        ("base_lr=1", "optim.base_lr"),
        ("mask.visable=0.3", "mask.visible"),
    ],
)
def test_a_misspelt_setting_names_the_one_that_was_meant(setting, meant):
    with pytest.raises(ConfigError, match=rf"there is no such setting; did you mean {meant}\?"):
        composed(setting)


def test_a_setting_like_no_other_is_refused_without_a_guess():
    with pytest.raises(ConfigError, match=r"there is no such setting$"):
        composed("xyzzy=1")


@pytest.mark.parametrize("setting", ["mask.visible=0.5", "mask.thinning=none"])
def test_what_the_ijepa_sampler_would_ignore_is_refused(setting):
    with pytest.raises(ConfigError, match="ijepa cuts to the batch's fewest"):
        composed("mask.sampler=ijepa", setting)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("images: 96\nimages: 32\n", r"run\.yaml: line 2 sets 'images' a second time"),
        ("optim:\n  clip: 1\n  clip: 2\n", r"run\.yaml: line 3 sets 'clip' a second time"),
        ("optim:\n\tclip: 1\n", r"run\.yaml: not valid YAML in line 2; tabs cannot indent"),
    ],
)
def test_a_file_that_is_not_what_it_seems_is_refused_by_its_line(tmp_path, text, named):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=named):
        composed(file=file)


def test_a_rule_that_is_broken_is_said_without_the_librarys_words():
    with pytest.raises(ConfigError, match=r"^encoder: image_size 32 is no multiple of patch_size 5$"):
        composed("encoder.patch_size=5")
