import asyncio
import base64
import io
import threading

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from bootleg_service.masks.colors import cluster_classes
from bootleg_service.masks.maker import MaskMaker
from bootleg_service.masks.schemas import SegmentationList
from tests import images
from tests.service.fake_engine import NAME, SPACE
from tests.service.pictures import SIDE, photo, shade, truncated_jpeg
from tests.service.serving import error_of, eventually, serving

from .test_polygons import filled

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools
]

SEGMENT = "/v1/images/segment"
METHODS = ("kmeans", "ncut", "foreground")


async def ask(served, image, accept=None, **options):
    headers = {} if accept is None else {"Accept": accept}
    return await served.client.post(SEGMENT, content=image, params=options, headers=headers)


async def one(served, image, **options):
    """The single mask of a JSON answer."""
    response = await ask(served, image, **options)
    assert response.status_code == 200, response.text
    SegmentationList.model_validate_json(response.content)
    (mask,) = response.json()["data"]
    return mask


def drawn(mask):
    """The label map that a JSON answer's segments make; each pixel in one of them at most."""
    shape = (mask["size"]["height"], mask["size"]["width"])
    labels = np.full(shape, 255)
    for segment in mask["segments"]:
        if segment.get("rle") is not None:
            assert segment["rle"]["size"] == list(shape)
            inside = coco.decode({"size": shape, "counts": segment["rle"]["counts"].encode()}).astype(bool)
        else:
            polygons = [[np.reshape(ring, (-1, 2)) for ring in part] for part in segment["polygons"]]
            inside = sum(filled(part, shape) for part in polygons).astype(bool)
        assert (labels[inside] == 255).all()
        labels[inside] = segment["label"]
        left, top, width, height = segment["bbox"]
        assert inside.sum() == inside[top : top + height, left : left + width].sum() == segment["area"]
        assert inside[top].any()
        assert inside[top + height - 1].any()
        assert inside[:, left].any()
        assert inside[:, left + width - 1].any()
    assert (labels == 255).sum() == mask["unseen"]
    return labels


def refused(response, param, code="invalid_request", status=400):
    assert response.status_code == status, response.text
    error = error_of(response)
    assert (error["code"], error["param"]) == (code, param)
    return error["message"]


@pytest.mark.parametrize("method", METHODS)
async def test_the_segments_fill_the_box_and_nothing_else(served, method):
    mask = await one(served, photo(width=80, height=60), method=method)
    assert mask["image"] == mask["size"] == {"height": 60, "width": 80}
    assert mask["box"] == [10, 0, 70, 60]
    labels = drawn(mask)
    assert (labels[:, :10] == 255).all()
    assert (labels[:, 70:] == 255).all()
    assert (labels[:, 10:70] != 255).all()
    assert mask["unseen"] == 20 * 60


@pytest.mark.parametrize("size", ["grid", "input", "original"])
async def test_every_form_says_the_same_mask(served, size):
    image = photo(width=80, height=60)
    by_rle = await one(served, image, size=size)
    by_polygons = await one(served, image, size=size, format="polygons", max_polygons=10_000)
    in_json = await one(served, image, size=size, format="png", accept="application/json")
    png = await ask(served, image, size=size, format="png")
    npy = await ask(served, image, size=size, format="npy")
    labels = drawn(by_rle)
    np.testing.assert_array_equal(drawn(by_polygons), labels)
    assert base64.b64decode(in_json["png"]) == png.content
    np.testing.assert_array_equal(np.load(io.BytesIO(npy.content)), labels[None])
    picture = Image.open(io.BytesIO(png.content))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture), labels)
    rgba = np.asarray(picture.convert("RGBA"))
    for segment in by_rle["segments"]:
        assert set(map(tuple, rgba[labels == segment["label"]].tolist())) == {(*segment["color"], 255)}
    assert (rgba[labels == 255] == 0).all()
    for response in (png, npy):
        assert response.headers["x-mask-image"] == "60,80"
        assert response.headers["x-mask-box"] == "10,0,70,60"
    shape = {"grid": (2, 2), "input": (SIDE, SIDE), "original": (60, 80)}[size]
    assert npy.headers["x-shape"] == f"1,{shape[0]},{shape[1]}"
    assert (npy.headers["content-type"], png.headers["content-type"]) == ("application/x-npy", "image/png")


async def test_polygons_beyond_the_largest_are_counted(served):
    everything = await one(served, photo(), format="polygons", clusters=4)
    few = await one(served, photo(), format="polygons", clusters=4, max_polygons=1)
    for whole, cut in zip(everything["segments"], few["segments"], strict=True):
        assert cut["polygons"] == whole["polygons"][:1]
        assert cut["polygons_left_out"] == len(whole["polygons"]) - 1
        assert whole["polygons_left_out"] == 0


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_the_mask_is_that_of_the_upright_image(served, orientation):
    stored = images.scene(40, 60)
    tagged = await one(served, images.png(stored, orientation=orientation))
    assert tagged["image"] == ({"height": 60, "width": 40} if orientation > 4 else {"height": 40, "width": 60})
    assert tagged["box"] == ([0, 10, 40, 50] if orientation > 4 else [10, 0, 50, 40])
    assert drawn(tagged).shape == (tagged["image"]["height"], tagged["image"]["width"])


async def test_the_answer_says_who_made_the_mask_and_in_which_space(served):
    body = (await ask(served, photo(), method="ncut")).json()
    assert (body["head"], body["method"], body["model"], body["embedding_space"]) == (None, "ncut", NAME, SPACE)
    assert body["usage"]["images"] == 1
    assert (await ask(served, photo())).json()["method"] == "kmeans"


async def test_clusters_are_as_many_as_asked_and_named_in_order_of_size(served):
    mask = await one(served, photo(), clusters=3, size="grid")
    assert [segment["name"] for segment in mask["segments"]] == ["cluster 0", "cluster 1", "cluster 2"]
    areas = [segment["area"] for segment in mask["segments"]]
    assert areas == sorted(areas, reverse=True)
    assert len({tuple(segment["color"]) for segment in mask["segments"]}) == 3


async def test_the_foreground_is_one_of_two_segments(served):
    mask = await one(served, photo(), method="foreground", size="grid")
    assert [segment["name"] for segment in mask["segments"]] == ["background", "foreground"]


@pytest.mark.parametrize(
    ("options", "param", "said"),
    [
        ({"clusters": 1}, "clusters", "1 asked for; 2 to 32"),
        ({"clusters": 33}, "clusters", "33 asked for; 2 to 32"),
        ({"clusters": "many"}, "clusters", "integer"),
        ({"clusters": 3, "method": "foreground"}, "clusters", "only kmeans and ncut"),
        ({"method": "watershed"}, "method", "'kmeans', 'ncut' or 'foreground'"),
        ({"head": "camvid"}, "head", "this model has none"),
        ({"head": "camvid", "method": "kmeans"}, "method", "kmeans cannot be had together with a head"),
        ({"size": "huge"}, "size", "'grid', 'input' or 'original'"),
        ({"format": "gif"}, "format", "'rle', 'polygons', 'png' or 'npy'"),
        ({"format": "polygons", "max_polygons": 0}, "max_polygons", "0 asked for; 1 to 10,000"),
        ({"format": "polygons", "max_polygons": 10_001}, "max_polygons", "10001 asked for; 1 to 10,000"),
        ({"max_polygons": 5}, "max_polygons", "5 asked for, but the format is rle"),
        ({"on_error": "partial", "format": "npy"}, "on_error", "application/x-npy has no place for an error"),
        ({"cluster": 3}, None, "known here: head, method, clusters"),
    ],
)
async def test_an_option_that_cannot_be_is_refused_by_name_value_and_limit(served, options, param, said):
    assert said in refused(await ask(served, photo(), **options), param)
    assert served.engine.batches == []


@pytest.mark.parametrize(
    ("accept", "form", "answered"),
    [
        (None, None, "application/json"),
        ("*/*", "rle", "application/json"),
        ("image/png", None, "image/png"),
        ("image/*", None, "image/png"),
        ("application/x-npy", None, "application/x-npy"),
        ("application/npy", "npy", "application/x-npy"),
        ("application/json;q=0.1, image/png", None, "image/png"),
        ("application/json", "png", "application/json"),
        ("*/*", "png", "image/png"),
        ("image/png", "rle", None),
        ("application/x-npy", "png", None),
        ("application/json", "npy", None),
        ("text/html", None, None),
    ],
)
async def test_accept_and_format_choose_the_answer_or_are_refused_together(served, accept, form, answered):
    response = await ask(served, photo(), accept=accept, **({} if form is None else {"format": form}))
    if answered is None:
        refused(response, "accept", "not_acceptable", 406)
    else:
        assert (response.status_code, response.headers["content-type"]) == (200, answered)


def files(*contents):
    return [("images", (f"{i}", content)) for i, content in enumerate(contents)]


async def test_several_images_are_answered_in_order(served):
    sizes = [(80, 60), (40, 40), (30, 90)]
    response = await served.client.post(SEGMENT, files=files(*(photo(width=w, height=h) for w, h in sizes)))
    assert [mask["index"] for mask in response.json()["data"]] == [0, 1, 2]
    assert [mask["image"] for mask in response.json()["data"]] == [{"height": h, "width": w} for w, h in sizes]


async def test_label_maps_of_several_images_are_stacked_when_they_have_one_size(served):
    sent = files(photo(width=80, height=60), photo(1, width=40, height=40))
    accept = {"Accept": "application/x-npy"}
    stacked = await served.client.post(f"{SEGMENT}?size=input", files=sent, headers=accept)
    assert np.load(io.BytesIO(stacked.content)).shape == (2, SIDE, SIDE)
    assert stacked.headers["x-mask-box"] == "10,0,70,60; 0,0,40,40"
    assert "size=input" in refused(await served.client.post(SEGMENT, files=sent, headers=accept), "images")


async def test_a_png_holds_one_mask(served):
    response = await served.client.post(f"{SEGMENT}?format=png", files=files(photo(), photo(1)))
    assert "2 files; image/png holds one mask" in refused(response, "images")
    listed = await served.client.post(
        f"{SEGMENT}?format=png", files=files(photo(), photo(1)), headers={"Accept": "application/json"}
    )
    assert all(mask["png"] for mask in listed.json()["data"])


async def test_an_image_at_fault_fails_the_request_or_only_itself(served):
    sent = files(photo(), truncated_jpeg(), b"text", photo(1))
    refused(await served.client.post(f"{SEGMENT}", files=sent[:2]), "images[1]", "corrupt_image", 422)
    response = await served.client.post(f"{SEGMENT}?on_error=partial", files=sent)
    SegmentationList.model_validate_json(response.content)
    data = response.json()["data"]
    assert [mask.get("error", {}).get("code") for mask in data] == [
        None,
        "corrupt_image",
        "unsupported_image_format",
        None,
    ]
    assert data[1]["segments"] is None
    assert data[3]["segments"]


async def test_a_repeated_mask_comes_from_the_cache_and_another_one_from_the_cached_tokens(served):
    first, again = await ask(served, shade(7)), await ask(served, shade(7))
    assert (first.headers["x-cache"], again.headers["x-cache"]) == ("miss", "hit")
    assert again.content == first.content
    forms = [
        {"clusters": 2},
        {"clusters": 3},
        {"method": "ncut"},
        {"size": "grid"},
        {"format": "npy"},
        {"format": "png"},
    ]
    forms += [{"method": "foreground"}, {"format": "polygons"}, {"format": "polygons", "max_polygons": 1}]
    for options in forms:
        assert (await ask(served, shade(7), **options)).headers["x-cache"] == "miss", options
    for options in forms:
        assert (await ask(served, shade(7), **options)).headers["x-cache"] == "hit", options
    assert served.engine.numbers == [7]


async def test_options_that_mean_the_same_share_what_is_cached(served):
    await ask(served, shade(7))
    assert (await ask(served, shade(7), method="kmeans", size="original")).headers["x-cache"] == "hit"
    assert (await ask(served, shade(7), accept="image/png")).headers["x-cache"] == "miss"
    assert (await ask(served, shade(7), format="png", accept="application/json")).headers["x-cache"] == "hit"


async def test_equal_masks_asked_for_at_once_are_made_once(served):
    served.engine.hold()
    tasks = [asyncio.create_task(ask(served, shade(7))) for _ in range(20)]
    await eventually(lambda: served.engine.running == 1)
    served.engine.release()
    answers = await asyncio.gather(*tasks)
    assert len({answer.content for answer in answers}) == 1
    assert served.engine.numbers == [7]
    assert served.sample("bootleg_stage_seconds_count", stage="mask") == 1


async def test_a_mask_above_the_bound_is_not_kept_but_its_tokens_are(served, monkeypatch):
    monkeypatch.setattr("bootleg_service.pipeline.MAX_KEPT_BYTES", 100)
    for _ in range(2):
        assert (await ask(served, shade(7))).headers["x-cache"] == "miss"
    assert served.engine.numbers == [7]


async def test_masks_of_too_many_pixels_are_refused_before_anything_is_computed(engine):
    async with serving(engine, masks__max_pixels=5000) as served:
        message = refused(await ask(served, photo(width=101, height=50)), "size")
        assert "5,050 pixels; the limit is 5,000; take size=input" in message
        sent = files(photo(width=60, height=50), photo(1, width=60, height=50))
        assert "6,000 pixels" in refused(await served.client.post(SEGMENT, files=sent), "size")
        assert engine.batches == []
        assert (await ask(served, photo(width=100, height=50))).status_code == 200
        assert (await ask(served, photo(width=101, height=50), size="input")).status_code == 200


async def test_polygons_of_too_many_vertices_are_refused(engine):
    async with serving(engine, masks__max_vertices=7) as served:
        message = refused(await ask(served, photo(), format="polygons"), "images[0]")
        assert "the limit is 7; take rle" in message
        assert (await ask(served, photo())).status_code == 200


@pytest.fixture
def gate(monkeypatch):
    """Masks that wait to be released, and the threads they are made in."""
    release, threads, draw = threading.Event(), [], MaskMaker._draw

    def slow(self, data, source):
        threads.append(threading.current_thread().name)
        assert release.wait(60)
        return draw(self, data, source)

    monkeypatch.setattr(MaskMaker, "_draw", slow)
    yield release, threads
    release.set()


async def test_masks_are_made_beside_the_event_loop_by_so_many_threads(engine, gate):
    release, threads = gate
    async with serving(engine, masks__threads=2) as served:
        tasks = [asyncio.create_task(ask(served, shade(number))) for number in range(5)]
        await eventually(lambda: served.service.masks.waiting == 5)
        assert (await served.embed(shade(9))).status_code == 200
        assert len(threads) == 2
        release.set()
        assert {response.status_code for response in await asyncio.gather(*tasks)} == {200}
    assert all(name.startswith("bootleg-mask") for name in threads)


async def test_more_masks_than_may_wait_are_503_with_retry_after_and_the_others_are_made(engine, gate):
    release, _ = gate
    async with serving(engine, masks__max_waiting=2) as served:
        tasks = [asyncio.create_task(ask(served, shade(number))) for number in range(5)]
        await eventually(lambda: sum(task.done() for task in tasks) == 3)
        early = [task.result() for task in tasks if task.done()]
        release.set()
        late = [response for response in await asyncio.gather(*tasks) if response not in early]
    for response in early:
        assert "2 masks wait to be made" in refused(response, "images[0]", "overloaded", 503)
        assert int(response.headers["retry-after"]) >= 1
    assert [response.status_code for response in late] == [200, 200]


async def test_a_mask_that_everybody_has_left_is_not_made(engine, gate):
    release, threads = gate
    async with serving(engine) as served:
        first = asyncio.create_task(ask(served, shade(1)))
        await eventually(lambda: len(threads) == 1)
        left = asyncio.create_task(ask(served, shade(2)))
        await eventually(lambda: served.service.masks.waiting == 2)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        release.set()
        assert (await first).status_code == 200
        assert (await ask(served, shade(3))).status_code == 200
    assert len(threads) == 2


async def test_a_fault_of_ours_is_a_500_that_tells_nothing_and_is_not_kept(served, monkeypatch):
    draw = MaskMaker._draw
    monkeypatch.setattr(MaskMaker, "_draw", lambda *_: 1 / 0)
    response = await ask(served, shade(1))
    refused(response, None, "internal_error", 500)
    assert "division" not in response.text
    monkeypatch.setattr(MaskMaker, "_draw", draw)
    assert (await ask(served, shade(1))).headers["x-cache"] == "miss"


async def test_another_pinned_space_is_409(served):
    response = await served.client.post(SEGMENT, content=photo(), headers={"X-Embedding-Space": "es1-another"})
    refused(response, "X-Embedding-Space", "embedding_space_mismatch", 409)


async def test_the_openapi_document_has_the_route_with_its_options_errors_and_an_example_that_is_true(served):
    document = (await served.client.get("/openapi.json")).json()
    route = document["paths"][SEGMENT]["post"]
    assert {"200", "400", "406", "408", "409", "413", "415", "422", "500", "503", "504"} <= set(route["responses"])
    assert set(route["responses"]["200"]["content"]) == {"application/json", "image/png", "application/x-npy"}
    parameters = {parameter["name"]: parameter for parameter in route["parameters"]}
    assert {"head", "method", "clusters", "size", "format", "max_polygons", "on_error"} <= set(parameters)
    assert parameters["clusters"]["schema"]["maximum"] == 32
    example = document["components"]["schemas"]["Segmentation"]["example"]
    drawn(example)
    assert [tuple(segment["color"]) for segment in example["segments"]] == [c.color for c in cluster_classes(2)]
