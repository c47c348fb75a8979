"""Log lines: what they hold, and that nothing from outside can forge one."""

import io
import json
import logging
import logging.config
import re

import pytest
import uvicorn
from PIL import Image, PngImagePlugin

from bootleg_service import stages
from bootleg_service.telemetry.logs import JsonFormatter, TextFormatter, configure
from tests.service.pictures import shade
from tests.service.serving import EMBEDDINGS, OPENAI, serving

FORGED = "2026-01-01T00:00:00.000Z CRITICAL bootleg forged"
ATTACK = f"x\r\n{FORGED}\x1b[2J\u2028\u202e\x9b"
TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.]+ .*|    .*")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def logging_to():
    """Configure logging to a stream; all of it is put back."""
    root = logging.getLogger()
    before, level = root.handlers, root.level
    quiet = {name: logging.getLogger(name).level for name in ("PIL", "python_multipart", "urllib3")}

    def configured(form, stream=None, level="debug"):
        stream = stream or io.StringIO()
        configure(level, form, stream)
        return stream

    yield configured
    root.handlers = before
    root.setLevel(level)
    for name, was in quiet.items():
        logging.getLogger(name).setLevel(was)


def entry(message, *arguments, exc_info=None, **extra):
    record = logging.LogRecord("bootleg.x", logging.INFO, "f.py", 1, message, arguments, exc_info)
    record.__dict__ |= extra
    return record


def raised(text):
    try:
        raise ValueError(text)  # noqa: TRY301  # a traceback is what is wanted
    except ValueError as error:
        return (type(error), error, error.__traceback__)


def test_auto_is_text_on_a_terminal_and_json_elsewhere(logging_to):
    terminal, file = logging_to("auto", Terminal()), None
    logging.getLogger("bootleg").info("hello %d", 7)
    assert terminal.getvalue().endswith("Z INFO bootleg hello 7\n")
    file = logging_to("auto")
    logging.getLogger("bootleg").info("hello %d", 7)
    said = json.loads(file.getvalue())
    assert (said["level"], said["logger"], said["message"]) == ("info", "bootleg", "hello 7")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said["time"])


def test_the_level_is_the_lowest_that_is_shown(logging_to):
    stream = logging_to("text", level="warning")
    logging.getLogger("bootleg").info("quiet")
    logging.getLogger("bootleg").warning("loud")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["loud"]


def test_the_servers_own_lines_go_the_same_way(logging_to, monkeypatch):
    for name in ("uvicorn", "uvicorn.error"):  # as in a new process: servers of other tests set them up otherwise
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)
    stream = logging_to("json")
    uvicorn.Config(
        "nowhere:app", log_config=None, log_level="info"
    )  # as the command does; servers before it set others
    logging.getLogger("uvicorn.error").info("Application startup complete.")
    assert json.loads(stream.getvalue())["logger"] == "uvicorn.error"


def test_fields_are_words_of_the_text_and_members_of_the_json():
    fields = {"status": 200, "client": "a b", "cache": "", "route": "/x"}
    assert (
        TextFormatter()
        .format(entry("request", fields=fields))
        .endswith('INFO bootleg.x request status=200 client="a b" cache="" route=/x')
    )
    assert json.loads(JsonFormatter().format(entry("request", fields=fields))).items() >= fields.items()


def test_a_line_of_a_request_has_its_id():
    stages.begin("r-1")
    assert TextFormatter().format(entry("Redis failed")).endswith("Redis failed request_id=r-1")
    assert json.loads(JsonFormatter().format(entry("Redis failed")))["request_id"] == "r-1"


@pytest.mark.parametrize("place", ["message", "argument", "field", "exception"])
def test_text_from_outside_cannot_pass_for_a_line_of_ours(place):
    record = {
        "message": lambda: entry(ATTACK.replace("%", "")),
        "argument": lambda: entry("it said %s", ATTACK),
        "field": lambda: entry("request", fields={"client": ATTACK}),
        "exception": lambda: entry("failed", exc_info=raised(ATTACK)),
    }[place]()
    text, line = TextFormatter().format(record), JsonFormatter().format(record)
    assert all(TEXT_LINE.fullmatch(each) for each in text.split("\n"))
    assert not [each for each in text.split("\n") if each.startswith("2026-01-01")]
    assert text.replace("\n", "").isprintable()
    assert "forged" in text  # escaped, not lost
    assert "\n" not in line
    assert line.isascii()
    assert line.isprintable()
    assert "forged" in json.dumps(json.loads(line))


def named_image():
    """A PNG that carries text and a camera's name, both hostile."""
    about, exif = PngImagePlugin.PngInfo(), Image.Exif()
    about.add_text("Comment", ATTACK.encode("ascii", "replace").decode())
    exif[0x010F] = ATTACK.encode("ascii", "replace").decode()
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (1, 0, 7)).save(file, "PNG", pnginfo=about, exif=exif)
    return file.getvalue()


@pytest.mark.anyio
@pytest.mark.parametrize("form", ["text", "json"])
async def test_nothing_that_a_client_or_a_file_says_is_in_the_log(engine, logging_to, form):
    stream = logging_to(form)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the test's own client
    broken = named_image()[:-20]
    async with serving(engine) as served:
        post = served.client.post
        for data in (named_image(), broken):
            await post(EMBEDDINGS, content=data, headers={"X-Request-ID": "a forged id", "User-Agent": "forged"})
            await post(EMBEDDINGS, files=[("images", ("forged\r\nname.png", data, "image/png"))])
        await post(EMBEDDINGS, files=[("forged", ("forged", shade(1), "image/png"))])
        await post(OPENAI, json={"input": f"data:image/png;base64,{ATTACK}", "model": "forged"})
        await served.client.get("/forged/%0d%0aforged")
        await served.client.get("/v1/models/forged")
        engine.poison = {7}
        await served.embed(shade(7))  # a traceback
    lines = stream.getvalue().splitlines()
    assert sum("bootleg.request" in line for line in lines) == 9
    assert any("shape mismatch" in line for line in lines)
    assert "forged" not in stream.getvalue()
    if form == "json":
        assert all(isinstance(json.loads(line), dict) for line in lines)
    else:
        assert all(TEXT_LINE.fullmatch(line) for line in lines)
