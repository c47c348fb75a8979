"""The formula against PyTorch's own count of what is computed."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bootleg_training.engine.flops import encoder_flops, image_flops
from bootleg_training.presets import PRESETS
from tests.training.tiny import loss_of, tiny_batch, tiny_config, tiny_model

BF16 = {"device_type": "cpu", "dtype": torch.bfloat16}
"""The path on the CPU whose attention is made of plain products; the fused kernel is not counted by PyTorch."""

CASES = {
    "plain": {},
    "no global tokens": {"encoder": {"registers": 0, "cls_token": False}},
    "wide mlp": {"encoder": {"mlp_ratio": 2.5}},
    "joint": {"predictor": {"joint": True}},
    "views": {"mask": {"views": 3}},
    "rectangles": {"mask": {"rectangles": 2}},
    "early targets": {"target": {"layers": [1, 2]}},
    "ijepa": {"target": {"layers": [3], "final_norm": True}, "mask": {"sampler": "ijepa"}},
    "early ijepa": {"target": {"layers": [2], "final_norm": True}},
    "taps": {"target": {"tap": "mid"}},
    "average": {"target": {"source": "average"}},
    "pixels": {"target": {"source": "pixels"}},
}


def counted(work):
    counter = FlopCounterMode(display=False)
    with counter, torch.autocast(**BF16):
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_a_step_is_counted_exactly(changes, pack):
    config = tiny_config(**changes)
    model, batch = tiny_model(config), tiny_batch(config, pack)
    flops = image_flops(config, visible=batch.visible_BV.shape[1], rectangle=batch.rectangles_BMT.shape[2])

    def step():
        loss_of(model, batch).total.backward()

    assert counted(step) == config.batch_size * flops.total


def test_the_parts_are_counted_exactly(config, pack):
    model, batch = tiny_model(config), tiny_batch(config, pack)
    flops = image_flops(config, visible=batch.visible_BV.shape[1], rectangle=batch.rectangles_BMT.shape[2])
    assert counted(lambda: model.target_features(batch.images_BHWC)) == config.batch_size * flops.teacher
    with torch.no_grad():
        forward = counted(lambda: model.student(batch.images_BHWC, batch.visible_BV))
    assert forward == config.batch_size * encoder_flops(config.encoder, batch.visible_BV.shape[1])
    assert flops.total == flops.teacher + flops.student + flops.predictor


def test_a_known_encoder_has_its_published_cost():
    # DeiT-S reports 4.6 G multiply-adds at 224 pixels, patch 16, with CLS alone: 9.2 GFLOP.
    encoder = PRESETS["small"].encoder.model_copy(update={"registers": 0})
    assert encoder_flops(encoder, encoder.patches) == pytest.approx(9.2e9, rel=0.01)
