import io

import numpy as np
import pytest
from PIL import Image

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.manifest import GRAPH_OUTPUTS, PixelClass, golden_key
from bootleg_service.engine import open_engine
from bootleg_service.errors import StartupError
from bootleg_service.masks.heads import HeadedSession, row_shapes
from bootleg_service.masks.placement import label_map, place
from bootleg_service.onnx_session import OnnxSession
from bootleg_service.settings import EngineSettings
from tests.bundles import SIDE
from tests.contract.doctor import change_golden
from tests.service.pictures import encode

from .headed import COLORS, INPUTS, logits, quarters, serving_bundle, write_headed_bundle

CPU = EngineSettings(device="cpu", threads=1)


def pixels(count=3):
    return np.random.default_rng(1).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def test_the_engine_answers_logits_beside_the_encoders_outputs(headed_bundle):
    asked = ["embedding", *(golden_key(name) for name in INPUTS)]
    answers = open_engine(headed_bundle, CPU).run(pixels(), asked)
    assert sorted(answers) == sorted(asked)
    for name, fed_by in INPUTS.items():
        np.testing.assert_allclose(answers[golden_key(name)], logits(pixels(), fed_by), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("asked", [["logits.primary"], ["logits.primary", "embedding", "logits.deep", "layer_tokens"]])
def test_all_that_is_asked_costs_one_pass_of_the_encoder_and_nothing_else_is_computed(headed_bundle, asked):
    encoder, calls = OnnxSession(headed_bundle.graph("fp32"), "cpu", 1), []

    class Counting:
        providers = encoder.providers

        def run(self, feeds, names):
            calls.append(list(names))
            return encoder.run(feeds, names)

    answers = HeadedSession(Counting(), headed_bundle, 1).run({"pixels": pixels()}, asked)
    assert list(answers) == asked
    wanted = {INPUTS[name.removeprefix("logits.")] if name.startswith("logits.") else name for name in asked}
    assert calls == [sorted(wanted)]


def test_warm_up_runs_the_heads_and_their_rows_are_known(headed_bundle):
    open_engine(headed_bundle, CPU).warm_up([1, 3])
    shapes = row_shapes(headed_bundle.manifest)
    assert set(shapes) == {*GRAPH_OUTPUTS, *(golden_key(name) for name in INPUTS)}
    assert shapes["logits.deep"] == (3, 2, 2)


def test_a_head_that_answers_other_shapes_than_promised_stops_the_start(tmp_path):
    bundle = write_headed_bundle(tmp_path / "bundle", grid=(4, 4))
    with pytest.raises(StartupError, match="not what its manifest says"):
        open_engine(bundle, CPU).warm_up([1])


@pytest.mark.parametrize("name", INPUTS)
def test_golden_logits_that_a_head_does_not_give_stop_the_start(tmp_path, name):
    write_headed_bundle(tmp_path / "bundle")
    assert open_engine(open_bundle(tmp_path / "bundle"), CPU).check_golden() <= 1e-4
    change_golden(tmp_path / "bundle", golden_key(name), lambda array: array * 1.01)
    with pytest.raises(StartupError, match="golden check failed"):
        open_engine(open_bundle(tmp_path / "bundle"), CPU).check_golden()


def test_a_head_of_more_classes_than_a_mask_has_labels_stops_the_start(tmp_path):
    many = tuple(PixelClass(name=f"class {i}", color=(0, 0, 0)) for i in range(256))
    bundle = write_headed_bundle(tmp_path / "bundle", classes=many)
    with pytest.raises(StartupError, match=r"256 classes.*up to 255"):
        open_engine(bundle, CPU)


def test_a_head_that_is_no_graph_stops_the_start_in_one_line(tmp_path):
    bundle = write_headed_bundle(tmp_path / "bundle")
    bundle.head("deep").write_bytes(b"no graph")
    with pytest.raises(StartupError, match=r"cannot load deep\.onnx"):
        open_engine(bundle, CPU)


@pytest.mark.anyio
@pytest.mark.parametrize("head", INPUTS)
async def test_a_trained_head_labels_a_photograph(headed_bundle, head):
    picture = quarters()
    async with serving_bundle(headed_bundle) as client:
        segment = "/v1/images/segment"
        grid = await client.post(segment, content=encode(picture, "PNG"), params={"head": head, "size": "grid"})
        large = np.asarray(Image.fromarray(picture).resize((48, 40), Image.Resampling.NEAREST))
        options = {"head": head, "format": "npy"}
        original = await client.post(segment, content=encode(large, "PNG"), params=options)
        models = await client.get("/v1/models")
    body = grid.json()
    assert (body["head"], body["method"]) == (head, None)
    (mask,) = body["data"]
    assert [(s["name"], s["color"], s["area"]) for s in mask["segments"]] == [
        (c.name, list(c.color), area) for c, area in zip(COLORS, (2, 1, 1), strict=True)
    ]
    (labels,) = np.load(io.BytesIO(original.content))
    shrunk = np.asarray(Image.fromarray(large).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=(4, 0, 44, 40)))
    spec = headed_bundle.manifest.preprocess
    wanted = label_map(logits(shrunk[None], INPUTS[head])[0], place(spec, (40, 48), "original", (2, 2)))
    assert (labels == wanted).mean() > 0.99  # where two colours are equal, rounding decides
    assert (labels[:, :4] == 255).all()
    assert (labels[:, 44:] == 255).all()
    assert models.json()["data"][0]["heads"] == {name: ["red", "blue", "white"] for name in INPUTS}


@pytest.mark.anyio
async def test_an_unknown_head_is_refused_with_those_there_are(headed_bundle):
    async with serving_bundle(headed_bundle) as client:
        response = await client.post("/v1/images/segment?head=other", content=encode(quarters(), "PNG"))
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "head")
    assert "primary, deep" in error["message"] or "deep, primary" in error["message"]
    assert "other" not in error["message"]


@pytest.mark.anyio
async def test_masks_of_two_heads_are_never_mistaken_for_each_other(headed_bundle):
    image = encode(quarters(), "PNG")
    async with serving_bundle(headed_bundle) as client:
        answers = [await client.post("/v1/images/segment", content=image, params={"head": name}) for name in INPUTS]
        again = await client.post("/v1/images/segment", content=image, params={"head": "primary"})
    assert [answer.headers["x-cache"] for answer in (*answers, again)] == ["miss", "miss", "hit"]
