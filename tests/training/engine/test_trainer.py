"""The step: micro-batches, compiled blocks and bad batches against the plain step."""

import math

import pytest
import torch

from bootleg_bundle.errors import ConfigError
from bootleg_training.engine.schedule import rates
from bootleg_training.engine.trainer import Trainer, compile_blocks
from bootleg_training.engine.world import World
from tests.training.tiny import CPU, tiny_batch, tiny_config

STEPS = 3


def losses(trainer, config, pack):
    return [
        float(trainer.step(tiny_batch(config, pack, i), rates(config, i * config.batch_size)).loss.total)
        for i in range(STEPS)
    ]


def weights(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def test_micro_batches_add_up_to_the_batch(config, pack):
    plain = Trainer(config, CPU)
    cut = Trainer(tiny_config(accumulate=4), CPU)
    assert losses(cut, tiny_config(accumulate=4), pack) == pytest.approx(losses(plain, config, pack), abs=1e-5)
    for name, parameter in weights(plain).items():
        torch.testing.assert_close(weights(cut)[name], parameter, rtol=1e-4, atol=1e-5)


def test_micro_batches_report_the_whole_batch(config, pack):
    config = tiny_config(accumulate=2)
    trainer = Trainer(config, CPU)
    batch = tiny_batch(config, pack)
    with torch.no_grad():
        parts = [trainer.model(p.images_BHWC, p.visible_BV, p.rectangles_BMT) for p in batch.parts(2)]
    step = trainer.step(batch, rates(config, 0))
    assert float(step.loss.total) == pytest.approx(sum(float(part.total) for part in parts) / 2, abs=1e-6)
    torch.testing.assert_close(step.loss.per_layer, (parts[0].per_layer + parts[1].per_layer) / 2)


def test_views_stay_with_their_image_when_a_batch_is_cut(pack):
    config = tiny_config(mask={"views": 3}, accumulate=4)
    plain = Trainer(tiny_config(mask={"views": 3}), CPU)
    assert losses(Trainer(config, CPU), config, pack) == pytest.approx(losses(plain, config, pack), abs=1e-5)


# Tracing imports parts of torch that warn about their own deprecated parts.
traces = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore:The .grad attribute:UserWarning")


@traces
def test_compiled_blocks_compute_the_same(config, pack, monkeypatch):
    compiled: list[dict] = []
    real = torch.nn.Module.compile

    def recorded(module, **options):
        compiled.append(options)
        real(module, backend="eager", fullgraph=True, **options)  # traced whole, without a C++ compiler's minute

    monkeypatch.setattr(torch.nn.Module, "compile", recorded)
    eager = losses(Trainer(config, CPU), config, pack)
    trainer = Trainer(tiny_config(compile=True), CPU)
    assert compiled == [{"dynamic": False}] * sum(
        len(part.blocks) for part in (trainer.model.student, trainer.model.teacher, trainer.model.predictor)
    )
    assert losses(trainer, config, pack) == eager
    torch._dynamo.reset()


def test_blocks_are_compiled_on_request_only(config, monkeypatch):
    monkeypatch.setattr("bootleg_training.engine.trainer.compile_blocks", pytest.fail)
    Trainer(config, CPU)
    Trainer(tiny_config(compile=False), CPU)


@traces
def test_the_recompile_limit_is_raised_and_never_lowered(config):
    from torch._dynamo import config as dynamo

    with dynamo.patch(recompile_limit=8):
        compile_blocks(Trainer(config, CPU).model)
        assert dynamo.recompile_limit >= 64
    with dynamo.patch(recompile_limit=1000):
        compile_blocks(Trainer(config, CPU).model)
        assert dynamo.recompile_limit == 1000


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_one_bad_micro_batch_leaves_everything_untouched(pack, accumulate, poison):
    config = tiny_config(accumulate=accumulate)
    trainer = Trainer(config, CPU)
    trainer.step(tiny_batch(config, pack), rates(config, 0))
    before = weights(trainer)
    moments = {id(p): {k: v.clone() for k, v in s.items()} for p, s in trainer.optimiser.state.items()}
    batch = tiny_batch(config, pack, 1)
    batch.images_BHWC[-1] = poison
    step = trainer.step(batch, rates(config, config.batch_size))
    assert float(step.taken) == 0
    assert all(torch.equal(parameter, before[name]) for name, parameter in trainer.model.named_parameters())
    for parameter, state in trainer.optimiser.state.items():
        assert all(torch.equal(value, moments[id(parameter)][key]) for key, value in state.items())
    assert float(trainer.step(tiny_batch(config, pack, 2), rates(config, 2 * config.batch_size)).taken) == 1


def test_a_batch_that_cannot_be_cut_is_refused():
    with pytest.raises(ConfigError, match=r"batch_size = 8.*accumulate \(2\).*processes \(3\)"):
        World(0, 3).check(tiny_config(accumulate=2))


def test_rows_cover_the_batch_once():
    assert [World(rank, 4).rows(12) for rank in range(4)] == [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)]
