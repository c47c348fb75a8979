"""What the page sends, and what it does when the service refuses: nothing is lost, every reason is told in words."""

import json
import re
import shlex

import pytest

from tests.images import REFUSED, png, scene

from .conftest import KEY

FEW = {f"scene {seed}.png": png(scene(seed=seed)) for seed in range(4)}
EMBEDDINGS = "v1/images/embeddings"


def refusing(times, status, code, message, **headers):
    """Refuse the first requests of a route in the service's words, and let the others through."""
    left = [times]

    def handle(route):
        left[0] -= 1
        if left[0] < 0:
            return route.continue_()
        body = json.dumps({"error": {"message": message, "type": "server_error", "param": None, "code": code}})
        return route.fulfill(status=status, body=body, content_type="application/json", headers=headers)

    return handle


def test_an_image_at_fault_is_named_with_its_reason_and_the_others_are_embedded(site, visit):
    visitor = visit(site).arrive()
    bad = {"half.jpg": REFUSED["jpeg half"](), "text.txt": REFUSED["text"](), "none.png": b""}
    visitor.drop({**FEW, **bad})
    visitor.expect(visitor.tiles("ready")).to_have_count(len(FEW))
    visitor.expect(visitor.tiles("failed")).to_have_count(len(bad))
    for name, reason in (("half.jpg", "JPEG"), ("text.txt", "format"), ("none.png", "empty")):
        visitor.expect(visitor.tiles("failed").filter(has_text=name).locator(".state")).to_contain_text(reason)
        visitor.open(name)
        verdict = visitor.page.locator("#verdict")
        visitor.expect(verdict).to_contain_text(reason)
        visitor.expect(visitor.page.locator("#neighbours-note")).to_contain_text("no vector")
    visitor.expect(visitor.page.locator("#progress")).to_have_text("4 embedded, 3 failed")
    visitor.expect(visitor.page.locator("#announcement")).to_have_text("4 embedded, 3 failed")


def test_a_file_that_is_named_as_another_format_is_taken_for_what_it_is(site, visit):
    visitor = visit(site).arrive()
    visitor.page.set_input_files("#files", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": FEW["scene 0.png"]})
    visitor.expect(visitor.tiles("ready")).to_have_count(1)
    visitor.expect(visitor.page.locator("#frame")).to_be_visible()


def test_an_image_over_the_limit_is_not_even_sent(site, visit):
    visitor = visit(site).arrive()
    visitor.expect(visitor.page.locator("#served")).not_to_be_empty()
    visitor.drop({"large.png": b"\x89PNG" + bytes(10 * 2**20)})
    state = visitor.tiles("failed").locator(".state")
    visitor.expect(state).to_have_text("The image has 10,485,764 bytes; the limit is 10,485,760 bytes.")
    assert not visitor.sent(EMBEDDINGS)


@pytest.mark.parametrize(("status", "code"), [(503, "overloaded"), (429, "quota_exceeded"), (504, "deadline_exceeded")])
def test_a_busy_service_is_asked_again_when_it_says(site, visit, status, code):
    visitor = visit(site, expected_errors=[f"status of {status}"]).arrive()
    handle = refusing(1, status, code, "too many images are waiting", **{"Retry-After": "1"})
    with visitor.answering(EMBEDDINGS, handle):
        visitor.drop(FEW)
        notice = visitor.page.locator("#notice")
        visitor.expect(notice).to_have_text("Too many images are waiting. Trying again in 1 s; nothing is lost.")
        visitor.expect(visitor.tiles("ready")).to_have_count(len(FEW))
        visitor.expect(notice).to_be_hidden()
    assert len(visitor.sent(EMBEDDINGS)) == 2


def test_a_lost_connection_is_survived(site, visit):
    visitor = visit(site, expected_errors=["ERR_FAILED"]).arrive()
    left = [1]

    def handle(route):
        left[0] -= 1
        return route.continue_() if left[0] < 0 else route.abort()

    with visitor.answering(EMBEDDINGS, handle):
        visitor.drop(FEW)
        visitor.expect(visitor.page.locator("#notice")).to_contain_text("The service cannot be reached.")
        visitor.expect(visitor.tiles("ready")).to_have_count(len(FEW))


def test_what_fails_for_good_can_be_tried_again_by_hand(site, visit):
    visitor = visit(site, expected_errors=["status of 500"]).arrive()
    # All four, then two and two, then one by one: seven refusals.
    with visitor.answering(EMBEDDINGS, refusing(7, 500, "internal_error", "an internal error")):
        visitor.drop(FEW)
        visitor.expect(visitor.tiles("failed")).to_have_count(len(FEW))
        visitor.page.get_by_role("button", name="Try failed ones again").click()
        visitor.expect(visitor.tiles("ready")).to_have_count(len(FEW))
    visitor.expect(visitor.page.get_by_role("button", name="Try failed ones again")).to_be_hidden()


def test_a_view_that_fails_says_why_and_can_be_tried_again(site, visit):
    visitor = visit(site, expected_errors=["status of 500"]).arrive()
    visitor.drop_and_wait(FEW)
    with visitor.answering("v1/images/segment", refusing(1, 500, "engine_error", "the model failed on this image")):
        visitor.page.locator("#views").get_by_text("k-means").click()
        visitor.expect(visitor.page.locator("#verdict")).to_contain_text("The model failed on this image.")
        visitor.page.get_by_role("button", name="Try again").click()
        visitor.expect(visitor.page.locator("#frame")).to_be_visible()


def test_hundreds_of_images_go_in_a_few_requests_at_a_time(site, visit):
    visitor = visit(site).arrive()
    flying, most = set(), [0]

    def began(request):
        if EMBEDDINGS in request.url:
            flying.add(request)
            most[0] = max(most[0], len(flying))

    def ended(request):
        flying.discard(request)

    visitor.page.on("request", began)
    visitor.page.on("requestfinished", ended)
    images = {f"{seed}.png": png(scene(8, 8, seed=seed)) for seed in range(200)}
    visitor.drop(images)
    visitor.expect(visitor.page.locator("#announcement")).to_have_text("Embedding 200 images")
    visitor.expect(visitor.tiles("ready")).to_have_count(200)
    sizes = [request.response().json()["usage"]["images"] for request in visitor.sent(EMBEDDINGS)]
    assert sum(sizes) == 200
    assert max(sizes) == 8
    assert most[0] == 2
    visitor.expect(visitor.page.locator("#progress")).to_have_text("200 embedded")
    visitor.expect(visitor.page.locator("#bar")).to_be_hidden()


def test_names_of_files_are_text_whatever_they_hold(site, visit):
    visitor = visit(site).arrive()
    names = [
        "<img src=x onerror=alert(1)>.png",
        "<script>alert(1)</script>.png",
        "\"quoted\" & 'quoted'.png",
        "$(id).png",
    ]
    visitor.drop_and_wait(dict(zip(names, FEW.values(), strict=True)))
    for name in names:
        visitor.open(name)
        visitor.expect(visitor.page.locator("#detail-name")).to_have_text(name)
        visitor.expect(visitor.page.locator("#curl")).to_contain_text("v1/images")
        # The shell reads the name back as it was, and nothing else of it.
        assert f"@{name}" in shlex.split(visitor.page.locator("#curl").inner_text())
    assert visitor.page.locator("main script, .tile img[src=x], #detail img[src=x]").count() == 0


@pytest.mark.parametrize("name", ["two\nlines.png", "escape\x1b[2J.png", "turned\u202egnp.png"])
def test_a_name_that_does_not_belong_in_a_terminal_stays_out_of_the_command(site, visit, name):
    visitor = visit(site).arrive()
    visitor.drop_and_wait({name: FEW["scene 0.png"]})
    visitor.expect(visitor.page.locator("#curl")).to_contain_text("--data-binary @IMAGE ")


def test_the_key_is_asked_for_used_and_kept_in_memory_alone(locked_site, visit):
    visitor = visit(locked_site, expected_errors=["status of 401"]).arrive()
    field = visitor.page.get_by_label("This service asks for an API key")
    visitor.expect(field).to_be_focused()
    visitor.drop(FEW)  # before there is a key: they wait
    visitor.expect(visitor.tiles("waiting")).to_have_count(len(FEW))
    field.fill("bv-wrong")
    field.press("Enter")
    visitor.expect(visitor.page.locator("#notice")).to_have_text("This key is not valid here.")
    field.fill(KEY)
    field.press("Enter")
    visitor.expect(visitor.tiles("ready")).to_have_count(len(FEW))
    visitor.expect(field).to_be_hidden()
    visitor.choose("primary")
    curl = visitor.page.locator("#curl")
    visitor.expect(curl).to_contain_text('-H "Authorization: Bearer $BOOTLEG_KEY"')
    everything = visitor.page.evaluate(
        "() => [document.documentElement.outerHTML, location.href, JSON.stringify(localStorage),"
        " JSON.stringify(sessionStorage), document.cookie, document.getElementById('key').value].join()"
    )
    assert KEY not in everything
    assert not [request.url for request in visitor.requests if KEY in request.url]
    visitor.page.reload()
    visitor.expect(field).to_be_focused()
    visitor.expect(visitor.tiles()).to_have_count(0)


def test_a_model_is_chosen_where_there_are_several(site, visit):
    """The service's own list with a second name in it; what is asked of the second is answered by the first."""
    visitor = visit(site).arrive()
    other = "es1-" + "f" * 32

    def several(route):
        listed = route.fetch().json()
        listed["data"].append(
            {**listed["data"][0], "id": "second", "embedding_space": other, "heads": {"extra": ["a"]}}
        )
        route.fulfill(json=listed)

    asked = []

    def answer(route):
        asked.append((re.search(r"[?&]model=(\w+)", route.request.url)[1], route.request.headers["x-embedding-space"]))
        headers = {k: v for k, v in route.request.headers.items() if k != "x-embedding-space"}
        route.continue_(url=re.sub(r"&model=\w+", "", route.request.url), headers=headers)

    with visitor.answering("v1/models", several), visitor.answering("v1/images/", answer):
        visitor.arrive()
        visitor.drop_and_wait(FEW)
        visitor.page.get_by_label("Model").select_option("second")
        visitor.expect(visitor.page.locator("#views").get_by_text("extra")).to_be_visible()
        visitor.expect(visitor.page.locator("#neighbours-note")).to_contain_text("mean of these 4 vectors")
        visitor.expect(visitor.page.locator("#served")).to_contain_text("second")
    assert {name for name, _ in asked} == {"tiny", "second"}
    assert {space for name, space in asked if name == "second"} == {other}


def test_what_is_removed_is_forgotten(site, visit):
    visitor = visit(site).arrive()
    visitor.drop_and_wait(FEW)
    visitor.open("scene 1.png")
    visitor.page.get_by_role("button", name="Remove").click()
    visitor.expect(visitor.tiles()).to_have_count(3)
    visitor.expect(visitor.page.locator("#detail")).to_be_hidden()
    visitor.page.get_by_role("button", name="Clear").click()
    visitor.expect(visitor.page.locator("#empty")).to_be_visible()


def test_the_keyboard_alone_is_enough(site, visit):
    visitor = visit(site).arrive()
    page = visitor.page
    visitor.expect(page.locator("#served")).not_to_be_empty()
    for _ in range(3):  # the link past the top, "choose", "try"
        page.keyboard.press("Tab")
    visitor.expect(page.get_by_role("button", name="Try the example photograph")).to_be_focused()
    page.keyboard.press("Enter")
    visitor.expect(visitor.tiles("ready")).to_have_count(1)
    visitor.drop_and_wait(FEW)
    visitor.tiles().first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    visitor.expect(page.locator("#detail-name")).to_have_text("scene 0.png")
    page.keyboard.press("End")
    visitor.expect(visitor.tiles().last).to_be_focused()
    page.keyboard.press("Delete")
    visitor.expect(visitor.tiles()).to_have_count(4)
    visitor.expect(visitor.tiles().last).to_be_focused()
    page.locator("#views input:checked").focus()
    page.keyboard.press("ArrowRight")
    visitor.expect(page.locator("#views input:checked")).to_have_value("kmeans")
    visitor.expect(page.locator("#legend li").first).to_be_visible()
    tabbable = visitor.page.locator('.tile[tabindex="0"]')
    assert tabbable.count() == 1
