"""What a visitor sees of good images: neighbours, features and masks, checked against the API's own answers."""

import base64
import io
import re

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.images import jpeg, png, scene

SCENES = {f"scene {seed}.png": png(scene(40 + seed, 60, seed=seed)) for seed in range(9)}


@pytest.fixture
def looking(site, visit):
    visitor = visit(site).arrive()
    visitor.drop_and_wait(SCENES)
    return visitor


def test_before_the_first_image_the_page_says_in_a_sentence_what_it_is(site, visit):
    visitor = visit(site).arrive()
    visitor.expect(visitor.page.locator("#served")).to_contain_text("tiny · 6 numbers an image")
    assert visitor.page.locator("#empty .lead").inner_text().count(".") == 1
    assert visitor.page.title() == "Bootleg Vision"
    for hidden in ("#detail", "#gallery", "#access", "#models", "#notice"):
        visitor.expect(visitor.page.locator(hidden)).to_be_hidden()


def test_the_example_photograph_is_one_click_away(site, visit):
    visitor = visit(site).arrive()
    visitor.page.get_by_role("button", name="Try the example photograph").click()
    visitor.expect(visitor.tiles("ready")).to_have_count(1)
    visitor.expect(visitor.page.locator("#detail-name")).to_have_text("example.jpg")
    visitor.expect(visitor.page.locator("#neighbours-note")).to_contain_text("at least three images")


def test_neighbours_are_those_of_the_vectors_that_the_api_gives(site, looking):
    files = [("images", (name, data)) for name, data in SCENES.items()]
    data = httpx.post(f"{site}v1/images/embeddings", files=files).json()["data"]
    vectors = np.array([row["embedding"] for row in data])
    vectors -= vectors.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = list(SCENES)
    for chosen in (0, 4):
        similarities = vectors @ vectors[chosen]
        nearest = [int(i) for i in np.argsort(-similarities) if i != chosen]
        looking.open(names[chosen])
        looking.expect(looking.page.locator("#detail-name")).to_have_text(names[chosen])
        shown = looking.neighbours()
        assert [name for name, _ in shown] == [names[i] for i in nearest]
        assert np.allclose([value for _, value in shown], similarities[nearest], atol=0.0051)
    assert "mean of these 9 vectors is subtracted" in looking.page.locator("#neighbours-note").inner_text()


def test_a_neighbour_is_opened_by_a_click(looking):
    name = looking.neighbours()[0][0]
    looking.page.locator(".neighbour").first.click()
    looking.expect(looking.page.locator("#detail-name")).to_have_text(name)
    looking.expect(looking.tiles().filter(has_text=name)).to_have_attribute("aria-current", "true")


def test_features_are_the_principal_components_of_the_tokens(site, looking):
    name = "scene 2.png"
    looking.open(name)
    looking.choose("Features")
    looking.expect(looking.page.locator("#detail-name")).to_have_text(name)
    pixels = looking.overlay()
    answer = httpx.post(f"{site}v1/images/patches", content=SCENES[name], headers={"Accept": "application/x-npy"})
    tokens = np.load(io.BytesIO(answer.content))[0].astype(np.float64)
    assert pixels.shape[:2] == tokens.shape[:2]
    assert pixels[..., :2].std() > 20
    flat = tokens.reshape(-1, tokens.shape[-1])
    centred = flat - flat.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    for component in range(2):
        score = u[:, component] * s[component]
        score = 255 * (score - score.min()) / np.ptp(score)
        drawn = pixels[..., component].ravel().astype(float)
        assert min(np.abs(drawn - score).max(), np.abs(drawn - (255 - score)).max()) < 3, component
    # The mixing matrix of this bundle has two directions: there is no third, and no noise in its place.
    assert set(pixels[..., 2].ravel()) == {128}
    share = (s[:3] ** 2).sum() / (s**2).sum()
    assert f"{round(100 * share)}% is shown" in looking.page.locator("#explanation").inner_text()


@pytest.mark.parametrize(
    ("view", "options"),
    [
        ("k-means", {"method": "kmeans"}),
        ("Normalised cut", {"method": "ncut"}),
        ("Foreground", {"method": "foreground"}),
        ("primary", {"head": "primary"}),
        ("deep", {"head": "deep"}),
    ],
)
def test_a_mask_is_laid_over_the_photograph_with_its_names_and_colours(site, looking, view, options):
    name = "scene 5.png"
    looking.open(name)
    looking.choose(view)
    looking.expect(looking.page.locator("#legend li").first).to_be_visible()
    answer = httpx.post(
        f"{site}v1/images/segment", params={**options, "format": "png"}, content=SCENES[name],
        headers={"Accept": "application/json"},
    ).json()["data"][0]  # fmt: skip
    mask = Image.open(io.BytesIO(base64.b64decode(answer["png"]))).convert("RGBA")
    assert np.array_equal(looking.overlay(), np.asarray(mask))
    rows = looking.page.locator("#legend li")
    shown = {re.sub(r" (under )?\d+%$", "", text) for text in rows.all_inner_texts()}
    assert shown == {segment["name"] for segment in answer["segments"]}
    colours = {row.evaluate("(s) => getComputedStyle(s).backgroundColor") for row in rows.locator(".swatch").all()}
    assert colours == {f"rgb({', '.join(map(str, segment['color']))})" for segment in answer["segments"]}


def test_the_overlay_lies_on_the_box_that_the_encoder_saw(looking):
    looking.choose("Features")
    stage, frame = (looking.page.locator(name).bounding_box() for name in ("#photograph", "#frame"))
    # A scene of 60 x 40 is seen in its centre square.
    assert frame["width"] == pytest.approx(stage["width"] * 40 / 60, abs=1)
    assert frame["x"] - stage["x"] == pytest.approx(stage["width"] * 10 / 60, abs=1)
    assert frame["height"] == pytest.approx(stage["height"], abs=1)
    looking.choose("primary")
    looking.expect(looking.page.locator("#legend li").first).to_be_visible()
    overlay = looking.page.locator("#overlay").bounding_box()
    assert overlay == pytest.approx(stage, abs=1)


def test_opacity_goes_from_the_photograph_to_the_mask(looking):
    looking.choose("k-means")
    slider = looking.page.get_by_label("Opacity")
    for value in ("0", "100"):
        slider.fill(value)
        looking.expect(looking.page.locator("#overlay")).to_have_css("opacity", str(int(value) // 100))
        assert looking.page.locator("#opacity-value").inner_text() == f"{value}%"


def test_where_the_time_went_and_whether_the_cache_answered_are_told(looking):
    looking.choose("Foreground")
    fresh = png(scene(40, 60, seed=77))
    looking.drop_and_wait({"fresh.png": fresh})
    looking.open("fresh.png")
    timing = looking.page.locator("#timing")
    looking.expect(timing).to_have_text(re.compile(r"encode \d+\.\d ms.* · round trip \d+ ms · cache miss\."))
    again = looking.page.context.new_page()
    again.goto(looking.url)
    again.set_input_files("#files", {"name": "same.png", "mimeType": "image/png", "buffer": fresh})
    again.locator("#views").get_by_text("Foreground").click()
    looking.expect(again.locator("#timing")).to_have_text(re.compile(r"cache hit\."))


def test_the_curl_line_asks_for_what_is_shown(looking):
    looking.open("scene 3.png")
    curl = looking.page.locator("#curl")
    for view, path in (
        ("Features", "v1/images/patches?dtype=float32"),
        ("primary", "v1/images/segment?head=primary&size=original&format=png"),
    ):
        looking.choose(view)
        looking.expect(curl).to_contain_text(f"{looking.url}{path}")
        looking.expect(curl).to_contain_text("--data-binary '@scene 3.png'")


def test_a_photograph_with_an_orientation_tag_stands_upright_under_its_mask(site, visit):
    visitor = visit(site).arrive()
    picture = scene(40, 90, seed=11)
    visitor.drop_and_wait({"turned.jpg": jpeg(picture, orientation=6)})
    visitor.choose("primary")
    visitor.expect(visitor.page.locator("#legend li").first).to_be_visible()
    assert visitor.overlay().shape[:2] == (90, 40)
    box = visitor.page.locator("#photograph").bounding_box()
    assert box["height"] / box["width"] == pytest.approx(90 / 40, abs=0.05)


def test_narrow_screens_need_no_sideways_scrolling(site, visit):
    visitor = visit(site, viewport={"width": 360, "height": 720}).arrive()
    wide = "() => document.documentElement.scrollWidth"
    assert visitor.page.evaluate(wide) == 360
    visitor.drop_and_wait({**SCENES, "a very long name " * 8 + ".png": SCENES["scene 1.png"]})
    visitor.choose("Foreground")
    assert visitor.page.evaluate(wide) == 360
