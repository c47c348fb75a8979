import pytest
import torch
from safetensors.torch import load_file, save_file

from bootleg_bundle.bundle import file_sha256
from bootleg_bundle.errors import CheckpointError
from bootleg_bundle.manifest import FileEntry
from bootleg_bundle.preprocess import PreprocessSpec
from bootleg_training import checkpoint
from bootleg_training.checkpoint import CONFIG_NAME, read_config
from bootleg_training.config import RunConfig
from bootleg_training.engine.initial import continued, initialise_from
from bootleg_training.presets import PRESETS
from bootleg_training.vit import resize_positions
from tests.provenance import made_up
from tests.training.tiny import loss_of, tiny_batch, tiny_config, tiny_model

ROLES = ("encoder", "student", "predictor")
LEARNED = {"positions": "learned"}


def save(path, model, config, roles=ROLES):
    parts = {"encoder": model.teacher, "student": model.student, "predictor": model.predictor}
    weights = {role: dict(parts[role].named_parameters()) for role in roles}
    size = config.encoder.image_size
    fields = {
        "encoder": config.encoder,
        "target_layers": config.target.layers,
        "preprocess": PreprocessSpec(height=size, width=size),
        "run": config,
        "provenance": made_up(method="Bootleg", steps=1234, images_seen=56_789),
    }
    checkpoint.write_checkpoint(path, weights, fields)
    return path


def trained(config):
    """A model unlike any that a seed gives, its learned positions too."""
    model = tiny_model(config, seed=5)
    with torch.no_grad():
        for parameter in (*model.student.parameters(), *model.predictor.parameters()):
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


@pytest.fixture
def saved(tmp_path):
    """Write the checkpoint of a tiny run; returns its model, settings and path."""

    def saved(roles=ROLES, **changes):
        config = tiny_config(**changes)
        model = trained(config)
        return model, config, save(tmp_path / "checkpoint", model, config, roles)

    return saved


def weights(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def same(one, two):
    assert one.keys() == two.keys()
    return [name for name in one if not torch.equal(one[name], two[name])] == []


def refused(config, path, match, **options):
    """Initialising fails with this message, and leaves the model as it was."""
    model = tiny_model(config)
    before = weights(model)
    with pytest.raises(CheckpointError, match=match):
        initialise_from(model, path, **options)
    assert same(weights(model), before)


# ---- the whole of it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoder", [{}, LEARNED, {"cls_token": False, "registers": 0}], ids=["sincos", "learned", "no global tokens"]
)
def test_a_run_begins_with_the_very_loss_of_the_model_that_was_saved(encoder, saved, pack):
    model, config, path = saved(encoder=encoder)
    again = tiny_model(config)
    batch = tiny_batch(config, pack)
    expected = loss_of(model, batch)
    assert not torch.equal(loss_of(again, batch).total, expected.total)
    initialise_from(again, path)
    assert same(weights(again), weights(model))
    loss = loss_of(again, batch)
    assert torch.equal(loss.total, expected.total)
    assert torch.equal(loss.per_layer, expected.per_layer)


def test_student_and_teacher_do_not_share_memory_and_the_teacher_is_not_trained(saved):
    _, config, path = saved(roles=("encoder",))
    model = tiny_model(config)
    initialise_from(model, path)
    student = weights(model.student)
    assert same(student, weights(model.teacher))
    with torch.no_grad():
        model.student.norm.bias.add_(1)
    assert torch.equal(model.teacher.norm.bias, student["norm.bias"])
    assert not any(p.requires_grad for p in model.teacher.parameters())
    assert all(p.requires_grad for p in model.student.parameters())


def test_a_whole_checkpoint_needs_one_note(saved):
    _, config, path = saved()
    (note,) = initialise_from(tiny_model(config), path)
    assert str(path) in note
    assert "Bootleg, 1,234 steps, 56,789 images seen" in note


def test_without_a_student_the_teacher_is_it(saved):
    model, config, path = saved(roles=("encoder", "predictor"))
    again = tiny_model(config)
    notes = initialise_from(again, path)
    assert same(weights(again.student), weights(model.teacher))
    assert same(weights(again.predictor), weights(model.predictor))
    assert any("no student" in note for note in notes)


def test_without_a_predictor_the_fresh_one_stays_and_it_is_said(saved):
    model, config, path = saved(roles=("encoder", "student"))
    again = tiny_model(config)
    fresh = weights(again.predictor)
    notes = initialise_from(again, path)
    assert same(weights(again.predictor), fresh)
    assert same(weights(again.student), weights(model.student))
    assert any("no predictor" in note for note in notes)


# ---- another encoder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "there", "here"),
    [
        ("width", 32, 64),
        ("depth", 3, 4),
        ("heads", 4, 2),
        ("patch_size", 4, 2),
        ("cls_token", True, False),
        ("registers", 1, 2),
        ("mlp_ratio", 4.0, 2.0),
        ("positions", "sincos", "learned"),
    ],
)
def test_another_encoder_is_refused_with_the_field_and_both_values(field, there, here, saved):
    _, _, path = saved()
    refused(tiny_config(encoder={field: here}), path, f"encoder.{field} is {there} there, {here} here")


def test_every_field_that_differs_is_named_and_allowing_the_predictor_does_not_help(saved):
    _, _, path = saved()
    other = tiny_config(encoder={"width": 64, "heads": 2})
    message = "encoder.width is 32 there, 64 here; encoder.heads is 4 there, 2 here"
    refused(other, path, message, allow=frozenset({"predictor"}))


# ---- another predictor, other targets ------------------------------------------------------------------------------

OTHER_TARGETS = [
    ({"layers": (2, 3)}, r"target.layers is \(1, 2, 3\) there, \(2, 3\) here"),
    ({"source": "pixels"}, "target.source is layers there, pixels here"),
    ({"source": "average"}, "target.source is layers there, average here"),
    ({"tap": "mid"}, "target.tap is block there, mid here"),
    ({"final_norm": True}, "target.final_norm is False there, True here"),
    ({"normalise": "instance"}, "target.normalise is layer there, instance here"),
]


@pytest.mark.parametrize(("target", "message"), OTHER_TARGETS)
def test_a_predictor_for_other_targets_is_refused_unless_it_is_allowed_to_be_fresh(target, message, saved):
    model, _, path = saved()
    config = tiny_config(target=target)
    refused(config, path, f"{message}.*allow `predictor`")
    again = tiny_model(config)
    fresh = weights(again.predictor.head)
    notes = initialise_from(again, path, allow=frozenset({"predictor"}))
    assert same(weights(again.predictor.head), fresh)
    assert same(weights(again.predictor.blocks), weights(model.predictor.blocks))
    assert torch.equal(again.predictor.mask_token, model.predictor.mask_token)
    assert same(weights(again.student), weights(model.student))
    assert any("head is fresh" in note for note in notes)


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        ({"width": 32}, "predictor.width is 16 there, 32 here"),
        ({"depth": 3}, "predictor.depth is 2 there, 3 here"),
        ({"heads": 2}, "predictor.heads is 4 there, 2 here"),
    ],
)
def test_a_predictor_of_another_shape_is_refused_unless_it_is_allowed_to_be_fresh(predictor, message, saved):
    model, _, path = saved()
    config = tiny_config(predictor=predictor)
    refused(config, path, f"{message}.*allow `predictor`")
    again = tiny_model(config)
    fresh = weights(again.predictor)
    notes = initialise_from(again, path, allow=frozenset({"predictor"}))
    assert same(weights(again.predictor), fresh)
    assert same(weights(again.teacher), weights(model.teacher))
    assert any("the predictor is fresh" in note for note in notes)


def test_allowing_other_sections_does_not_allow_a_fresh_predictor(saved):
    _, _, path = saved()
    refused(tiny_config(predictor={"depth": 3}), path, "predictor.depth", allow=frozenset({"target", "encoder"}))


def test_allowing_a_fresh_predictor_keeps_one_that_fits(saved):
    model, config, path = saved()
    again = tiny_model(config)
    assert len(initialise_from(again, path, allow=frozenset({"predictor"}))) == 1
    assert same(weights(again), weights(model))


@pytest.mark.parametrize(
    "changes",
    [{"predictor": {"joint": True}}, {"target": {"loss": "l1"}}, {"mask": {"rectangles": 2}}, {"batch_size": 4}],
)
def test_what_decides_no_weight_may_change(changes, saved):
    model, _, path = saved()
    again = tiny_model(tiny_config(**changes))
    initialise_from(again, path)
    assert same(weights(again), weights(model))


# ---- another image size --------------------------------------------------------------------------------------------


def test_a_fixed_position_table_is_that_of_the_new_size(saved, pack):
    model, _, path = saved()
    config = tiny_config(encoder={"image_size": 40})
    again = tiny_model(config)
    notes = initialise_from(again, path)
    assert same(weights(again), weights(model))
    assert any("image_size was 32, now 40: positions are computed" in note for note in notes)
    assert loss_of(again, tiny_batch(config, pack)).total.isfinite()


@pytest.mark.parametrize("size", [28, 40])
def test_a_learned_position_table_is_resampled_for_student_and_teacher_each(size, saved):
    model, _, path = saved(encoder=LEARNED)
    again = tiny_model(tiny_config(encoder={**LEARNED, "image_size": size}))
    notes = initialise_from(again, path)
    for part in ("student", "teacher"):
        table, other = getattr(model, part).positions_ND, getattr(again, part).positions_ND
        assert torch.equal(other, resize_positions(table.detach(), size // 4))
    assert not torch.equal(again.student.positions_ND, again.teacher.positions_ND)
    assert any(f"image_size was 32, now {size}: positions are resampled" in note for note in notes)


def test_resampling_keeps_what_bicubic_filters_keep():
    torch.manual_seed(0)
    table = torch.randn(64, 4)
    assert resize_positions(table, 8) is table
    flat = torch.full((64, 4), 0.7)
    for grid in (4, 7, 9, 16):
        torch.testing.assert_close(resize_positions(flat, grid), torch.full((grid * grid, 4), 0.7))


def test_resampling_keeps_rows_and_columns_apart():
    rows = torch.arange(8.0).repeat_interleave(8)[:, None]
    columns = torch.arange(8.0).repeat(8)[:, None]
    for grid in (5, 8, 12):
        tall, wide = (resize_positions(table, grid).view(grid, grid) for table in (rows, columns))
        torch.testing.assert_close(tall, tall[:, :1].expand(-1, grid))
        torch.testing.assert_close(wide, tall.T)
        assert (tall.diff(dim=0) > 0).all()
    middle = resize_positions(rows, 16).view(16, 16)[4:12, 0]  # away from the edges a line stays a line
    torch.testing.assert_close(middle, (torch.arange(4.0, 12) + 0.5) / 2 - 0.5)


def test_channels_are_resampled_each_by_itself():
    torch.manual_seed(0)
    table = torch.randn(49, 3)
    whole = resize_positions(table, 10)
    for channel in range(3):
        torch.testing.assert_close(
            whole[:, channel : channel + 1], resize_positions(table[:, channel : channel + 1], 10)
        )


# ---- learned positions in training ---------------------------------------------------------------------------------


def test_learned_positions_begin_as_the_fixed_ones_and_draw_nothing():
    fixed, learned = tiny_model(tiny_config()), tiny_model(tiny_config(encoder=LEARNED))
    assert torch.equal(learned.student.positions_ND, fixed.student.positions_ND)
    assert set(weights(learned)) - set(weights(fixed)) == {"student.positions_ND", "teacher.positions_ND"}
    assert same(weights(learned.student.blocks), weights(fixed.student.blocks))


def test_learned_positions_are_trained_and_averaged_into_the_teacher(pack):
    config = tiny_config(encoder=LEARNED)
    model = tiny_model(config)
    loss_of(model, tiny_batch(config, pack)).total.backward()
    assert model.student.positions_ND.grad.abs().sum() > 0
    assert model.teacher.positions_ND.grad is None
    with torch.no_grad():
        model.student.positions_ND.add_(1)
    before = model.teacher.positions_ND.clone()
    model.update_teacher(0.5, torch.ones(()))
    torch.testing.assert_close(model.teacher.positions_ND, (before + model.student.positions_ND) / 2)


def test_a_checkpoint_keeps_learned_positions(saved):
    model, _, path = saved(encoder=LEARNED)
    encoder, _ = checkpoint.load_encoder(path)
    assert torch.equal(encoder.positions_ND, model.teacher.positions_ND)


# ---- damage --------------------------------------------------------------------------------------------------------


def damage(path, name, change):
    """Replace tensors of a file and enter its new hash, as another program's checkpoint might be wrong."""
    save_file(change(load_file(path / name)), path / name)
    config = read_config_unchecked(path)
    entry = FileEntry(sha256=file_sha256(path / name), bytes=(path / name).stat().st_size)
    changed = config.model_copy(update={"files": {**config.files, name: entry}})
    (path / CONFIG_NAME).write_text(changed.model_dump_json())


def read_config_unchecked(path):
    return checkpoint.CheckpointConfig.model_validate_json((path / CONFIG_NAME).read_bytes())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "change",
    [
        lambda state: {name: tensor for name, tensor in state.items() if name != "norm.bias"},
        lambda state: {**state, "norm.bias": torch.ones(3)},
        lambda state: {**state, "norm.more": torch.ones(3)},
    ],
    ids=["missing", "other shape", "unknown"],
)
def test_a_file_that_is_not_what_its_checkpoint_states_is_refused_and_nothing_is_half_loaded(role, change, saved):
    _, config, path = saved()
    damage(path, f"{role}.safetensors", change)
    refused(config, path, rf"{role}.safetensors does not fit .*'norm\.")


def test_a_position_table_of_another_size_than_stated_is_refused(saved):
    _, config, path = saved(encoder=LEARNED)
    damage(path, "student.safetensors", lambda state: {**state, "positions_ND": state["positions_ND"][:50]})
    refused(config, path, "student.safetensors does not fit .*'positions_ND'")
    refused(tiny_config(encoder={**LEARNED, "image_size": 40}), path, "student.safetensors does not fit")


def test_a_changed_file_is_refused_by_its_hash(saved):
    _, config, path = saved()
    data = bytearray((path / "predictor.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "predictor.safetensors").write_bytes(data)
    refused(config, path, "predictor.safetensors.*SHA-256")


def test_a_file_that_holds_no_tensors_is_refused(saved):
    _, config, path = saved()
    (path / "student.safetensors").write_bytes(b"no")
    entry = FileEntry(sha256=file_sha256(path / "student.safetensors"), bytes=2)
    changed = read_config_unchecked(path)
    changed = changed.model_copy(update={"files": {**changed.files, "student.safetensors": entry}})
    (path / CONFIG_NAME).write_text(changed.model_dump_json())
    assert read_config(path) == changed
    refused(config, path, "student.safetensors is no safetensors file")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    refused(tiny_config(), tmp_path, "is no checkpoint")


# ---- settings to go on with ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [*PRESETS.values(), RunConfig()], ids=lambda config: config.name)
def test_going_on_is_gentler_and_changes_nothing_but_three_rates(config):
    config, gentle = config.resolved(), continued(config)
    assert gentle.optim.base_lr == pytest.approx(config.optim.base_lr / 5)
    assert gentle.optim.warmup == 0.02
    assert 1 - gentle.optim.ema_start == pytest.approx((1 - config.optim.ema_start) / 10)
    rates = {"base_lr", "warmup", "ema_start"}
    assert gentle.model_dump(exclude={"optim": rates}) == config.model_dump(exclude={"optim": rates})
    assert RunConfig.model_validate(gentle.model_dump()) == gentle


def test_a_warm_up_that_is_shorter_stays():
    assert continued(tiny_config(optim={"warmup": 0.0})).optim.warmup == 0


@pytest.mark.parametrize(
    ("start", "end", "slow"), [(0.99, 1.0, 0.999), (0.99, 0.995, 0.995), (0.99, 0.9, 0.99), (1.0, 1.0, 1.0)]
)
def test_the_teacher_never_begins_slower_than_it_ends_nor_faster_than_it_was_told(start, end, slow):
    config = tiny_config(optim={"ema_start": start, "ema_end": end})
    assert continued(config).optim.ema_start == pytest.approx(slow)
