import asyncio
import base64
import tempfile

import pytest
from starlette.requests import Request

from bootleg_bundle.errors import BootlegError
from bootleg_service.bodies import decode_base64, read_body
from bootleg_service.errors import ImageUrlError, RequestError
from bootleg_service.settings import RequestLimits

from .pictures import huge_png, photo, shade, truncated_jpeg
from .serving import EMBEDDINGS, OPENAI, error_of, serving

pytestmark = pytest.mark.anyio


def files(*images, name="images"):
    return [(name, (f"{i}", image, "application/octet-stream")) for i, image in enumerate(images)]


def b64(image):
    return base64.b64encode(image).decode()


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_image"),
        (b"just some text", 415, "unsupported_image_format"),
        (b"GIF89a" + bytes(50), 415, "unsupported_image_format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported_image_format"),
        (truncated_jpeg(), 422, "corrupt_image"),
        (b"\xff\xd8\xff", 422, "corrupt_image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), 422, "corrupt_image"),
        (huge_png(), 413, "image_too_large"),
        (huge_png(20_000, 10), 413, "image_too_large"),
    ],
    ids=["empty", "text", "gif", "svg", "truncated", "three bytes", "no header", "100 megapixels", "20,000 wide"],
)
async def test_what_is_no_acceptable_image_is_refused_by_kind_without_a_call_of_the_model(served, body, status, code):
    response = await served.embed(body)
    assert response.status_code == status
    assert error_of(response)["code"] == code
    assert served.engine.batches == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_every_accepted_format_is_answered_whatever_generic_type_the_client_states(served, kind):
    image = photo(kind=kind)
    for media_type in ("", "application/octet-stream", "application/x-www-form-urlencoded", f"image/{kind.lower()}"):
        response = await served.embed(image, headers={"Content-Type": media_type})
        assert response.status_code == 200, (media_type, response.text)


@pytest.mark.parametrize("media_type", ["image/png", "image/webp", "image/gif", "image/svg+xml", "application/json"])
async def test_a_declared_type_that_the_content_is_not_is_415(served, media_type):
    response = await served.embed(photo(), headers={"Content-Type": media_type})
    assert response.status_code == 415
    assert error_of(response)["code"] == "unsupported_media_type"


async def test_an_image_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(engine):
    image = photo()
    async with serving(engine, limits__image__max_bytes=len(image)) as served:
        assert (await served.embed(image)).status_code == 200
        response = await served.embed(image + b"\0")
    assert response.status_code == 413
    assert error_of(response)["code"] == "payload_too_large"


@pytest.mark.parametrize("declared", [{"Content-Length": "10"}, {"Transfer-Encoding": "chunked"}])
async def test_the_limit_counts_what_arrives_whatever_is_declared_and_the_rest_is_not_read(engine, declared):
    sent = []

    async def chunks():
        for _ in range(1000):
            sent.append(1)
            yield bytes(1000)

    async with serving(engine, limits__image__max_bytes=10_000) as served:
        response = await served.embed(chunks(), headers=declared)
    assert response.status_code == 413
    assert error_of(response)["code"] == "payload_too_large"
    assert len(sent) == 11


async def test_a_declared_length_over_the_limit_is_refused_before_anything_is_read(engine):
    sent = []

    async def chunks():
        sent.append(1)
        yield photo()

    async with serving(engine, limits__image__max_bytes=10_000) as served:
        response = await served.embed(chunks(), headers={"Content-Length": "10001"})
    assert response.status_code == 413
    assert sent == []


@pytest.mark.parametrize("declared", ["-1", "ten", "\xb2", "1e9", ""])
async def test_a_declared_length_that_is_no_number_is_never_an_internal_error(served, declared):
    response = await served.embed(photo(), headers={"Content-Length": declared.encode("latin-1")})
    assert response.status_code < 500


async def test_a_body_in_one_byte_chunks_is_read_whole(served):
    image = shade(5)

    async def chunks():
        for i in range(len(image)):
            yield image[i : i + 1]

    assert (await served.embed(chunks())).status_code == 200


@pytest.mark.parametrize("path", [EMBEDDINGS, OPENAI])
@pytest.mark.parametrize("trickle", [False, True], ids=["silent", "trickling"])
async def test_a_body_that_does_not_arrive_in_time_is_408(engine, path, trickle):
    async def chunks():
        yield photo()[:100]
        while trickle:
            await asyncio.sleep(0.01)
            yield b"\0"
        await asyncio.Event().wait()

    async with serving(engine, limits__receive_seconds=0.1) as served:
        response = await served.client.post(path, content=chunks())
    assert response.status_code == 408
    assert error_of(response)["code"] == "receive_timeout"


async def test_several_files_are_read_in_order(served):
    response = await served.client.post(EMBEDDINGS, files=files(shade(3), shade(1), shade(2)))
    assert response.status_code == 200
    assert [row["embedding"][0] for row in response.json()["data"]] == [4, 2, 3]


async def test_as_many_files_as_allowed_are_taken_and_one_more_is_refused(engine):
    async with serving(engine, limits__max_images=3) as served:
        taken = await served.client.post(EMBEDDINGS, files=files(*map(shade, range(3))))
        refused = await served.client.post(EMBEDDINGS, files=files(*map(shade, range(4))))
        many = await served.client.post(EMBEDDINGS, files=files(*map(shade, range(50))))
    assert taken.status_code == 200
    for response in (refused, many):
        assert response.status_code == 400
        error = error_of(response)
        assert (error["code"], error["param"]) == ("invalid_request", "images")


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"nonsense", "multipart/form-data; boundary=xyz"),
        (b"", "multipart/form-data; boundary=xyz"),
        (b"--xyz\r\n\r\n", "multipart/form-data; boundary=xyz"),
        (b"--xyz--\r\n", "multipart/form-data; boundary=xyz"),
        (b"nonsense", "multipart/form-data"),
        (
            b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\ntext\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
    ],
    ids=["nonsense", "empty", "unfinished", "no parts", "no boundary", "a field instead of a file"],
)
async def test_a_form_that_holds_no_images_is_400(served, body, media_type):
    response = await served.client.post(EMBEDDINGS, content=body, headers={"Content-Type": media_type})
    assert response.status_code == 400
    error = error_of(response)
    assert (error["code"], error["param"]) == ("invalid_request", "images")


async def test_files_under_another_name_are_no_images(served):
    response = await served.client.post(EMBEDDINGS, files=files(shade(1), name="file"))
    assert response.status_code == 400
    assert error_of(response)["param"] == "images"


async def test_the_bad_file_of_a_form_is_named(served):
    response = await served.client.post(EMBEDDINGS, files=files(shade(1), truncated_jpeg(), shade(2)))
    assert response.status_code == 422
    error = error_of(response)
    assert (error["code"], error["param"]) == ("corrupt_image", "images[1]")


async def test_a_file_over_the_limit_is_413_though_there_is_no_place_for_temporary_files(engine, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    async with serving(engine, limits__image__max_bytes=5000) as served:
        response = await served.client.post(EMBEDDINGS, files=files(shade(1), bytes(20_000)))
    assert response.status_code == 413
    assert error_of(response)["code"] == "image_too_large"


async def test_a_form_over_the_body_limit_is_413(engine):
    async with serving(engine, limits__max_body_bytes=10_000) as served:
        response = await served.client.post(EMBEDDINGS, files=files(*[bytes(3000)] * 5))
    assert response.status_code == 413
    assert error_of(response)["code"] == "payload_too_large"


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "data:;base64,", "data:image/png;name=a.png;base64,"])
def test_base64_and_data_uris_are_read_back_exactly(prefix):
    assert decode_base64(prefix + b64(shade(1)), RequestLimits(), "input") == shade(1)


@pytest.mark.parametrize(
    "url",
    ["http://a/b.png", "https://a/b.png", "HTTPS://a/b.png", "ftp://a/b", "file:///etc/passwd", "s3://b/k", "gs://b/k"],
)
def test_a_url_is_refused_as_a_url(url):
    with pytest.raises(ImageUrlError) as caught:
        decode_base64(url, RequestLimits(), "input[2]")
    assert caught.value.param == "input[2]"
    assert url not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        b64(shade(1))[:-1],
        b64(shade(1)) + "=",
        b64(shade(1)) + "\n",
        " " + b64(shade(1)),
        b64(shade(1))[:40] + "\u00e9" + b64(shade(1))[40:],
        b64(shade(1)).replace("A", "-", 1),
        "data:image/png," + b64(shade(1)),
        "data:image/png;base64" + b64(shade(1)),
    ],
    ids=["cut", "padded", "newline", "space", "accent", "url alphabet", "no base64 mark", "no comma"],
)
def test_base64_is_read_strictly(text):
    with pytest.raises(RequestError) as caught:
        decode_base64(text, RequestLimits(), "input[0]")
    assert (caught.value.code, caught.value.param) == ("invalid_request", "input[0]")


def test_base64_over_the_limit_is_refused_by_its_length():
    limits = RequestLimits.model_validate({"image": {"max_bytes": 1000}})
    with pytest.raises(BootlegError) as caught:
        decode_base64("!" * 2000, limits, "input")
    assert caught.value.code == "image_too_large"


def test_a_data_uri_that_declares_another_image_type_than_its_content_is_refused():
    with pytest.raises(BootlegError) as caught:
        decode_base64("data:image/jpeg;base64," + b64(shade(1)), RequestLimits(), "input")
    assert caught.value.code == "unsupported_media_type"


async def test_an_empty_body_reads_as_no_bytes():
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    assert await read_body(request, 10, 10) == b""


@pytest.mark.parametrize("cut", [5, 100])
async def test_a_form_without_its_end_is_refused_rather_than_answered_in_part(served, cut):
    request = served.client.build_request("POST", EMBEDDINGS, files=files(shade(1), shade(2)))
    body = request.read()[:-cut]
    headers = {"content-type": request.headers["content-type"]}
    response = await served.client.post(EMBEDDINGS, content=body, headers=headers)
    assert response.status_code == 400
    assert "cut short" in error_of(response)["message"]
    assert served.engine.numbers == []


async def test_a_form_of_an_unknown_charset_is_a_bad_request(served):
    body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\nq\r\n--x--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x; charset=undefined"}
    response = await served.client.post(EMBEDDINGS, content=body, headers=headers)
    assert response.status_code == 400


async def test_json_of_very_many_elements_is_refused_before_each_is_looked_at(served):
    response = await served.client.post("/v1/embeddings", content=b'{"input":[' + b"1," * 200_000 + b"1]}")
    assert response.status_code == 400
    assert "10,000 JSON elements" in error_of(response)["message"]
