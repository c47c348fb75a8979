"""Options of ``bootleg serve`` reach the settings and uvicorn; those out of bounds are refused by name."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from bootleg_cli import main
from bootleg_service import app as application
from bootleg_service import cli, lifecycle
from bootleg_service.guarded_protocol import GuardedProtocol
from bootleg_service.options import FIELDS
from bootleg_service.settings import Settings

from .fake_engine import fake_bundle

OTHER = {
    "access": {"trusted_proxies": "10.0.0.0/8", "cors_origins": "https://a.example"},
    "batch": {"bulk_share": "0.5"},
}


@pytest.fixture
def run(monkeypatch):
    """Invoke the command up to where uvicorn would begin; the settings and uvicorn's arguments."""
    seen = {}

    class Server:
        def __init__(self, _app, _settings, **named):
            seen["uvicorn"] = named

        def serve_to_the_end(self):
            """At once."""

    def create_app(bundle, settings, **named):
        seen["settings"] = settings
        return genuine(bundle, settings, **named)

    genuine = application.create_app
    monkeypatch.setattr(application, "create_app", create_app)
    monkeypatch.setattr(cli, "open_bundle", lambda _: fake_bundle())
    monkeypatch.setattr(cli, "_check_port", lambda *_: None)
    monkeypatch.setattr("bootleg_service.telemetry.logs.configure", lambda *_: False)
    monkeypatch.setattr("prometheus_client.disable_created_metrics", lambda: None)
    monkeypatch.setattr(lifecycle, "Server", Server)

    def run(*arguments, **environment):
        result = CliRunner(env=environment).invoke(main, ["serve", *arguments])
        assert result.exit_code == 0, result.output
        return seen["settings"], seen["uvicorn"]

    return run


def test_every_variable_stands_in_the_table_of_settings_and_no_other():
    text = (Path(__file__).parents[2] / "docs/api.md").read_text(encoding="utf-8")
    table = text.partition("\n## Settings\n")[2].partition("\n## ")[0]
    rows = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    assert set(re.findall(r"BOOTLEG_\w+", rows)) == {option.envvar for option in cli.serve.params}


def test_without_options_the_settings_are_the_defaults(run):
    assert run()[0] == Settings()


@pytest.mark.parametrize("flag", [flag for flag in FIELDS if "/" not in flag])
def test_each_option_and_its_variable_set_their_field(run, flag):
    concern, name = FIELDS[flag]
    default = getattr(getattr(Settings(), concern), name)
    text = OTHER.get(concern, {}).get(name) or str(default + 1)
    expected = (text,) if isinstance(default, tuple) else type(default)(text)
    variable = "BOOTLEG_" + flag.removeprefix("--").replace("-", "_").upper()
    for settings, _ in (run(flag, text), run(**{variable: text})):
        assert getattr(getattr(settings, concern), name) == expected


@pytest.mark.parametrize(("given", "shown"), [((), None), (("--metrics",), True), (("--no-metrics",), False)])
def test_metrics_are_shown_to_everybody_to_nobody_or_as_other_routes(run, given, shown):
    assert run(*given)[0].access.show_metrics is shown


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--mask-threads", "0"),
        ("--max-queue-items", "-1"),
        ("--decode-processes", "257"),
        ("--decode-memory-bytes", "1000"),
        ("--receive-seconds", "0"),
        ("--bulk-share", "1"),
        ("--cors-origin", "*"),
        ("--trusted-proxy", "everybody"),
        ("--max-held-bytes", "1000"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_the_option_and_the_value(flag, value):
    result = CliRunner().invoke(main, ["serve", flag, value])
    assert result.exit_code == 2
    assert flag.removeprefix("--").replace("-", "_") in result.output.replace("-", "_")
    assert value in result.output.replace(",", "")
    assert "Traceback" not in result.output


def test_uvicorn_believes_no_forwarded_header_unless_proxies_are_listed(run, monkeypatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    assert run()[1]["proxy_headers"] is False
    told = run("--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "::1")[1]
    assert (told["proxy_headers"], told["forwarded_allow_ips"]) == (True, ["10.0.0.0/8", "::1/128"])


def test_uvicorn_runs_the_guarded_protocol_under_the_limits_that_were_set(run):
    protocol = run("--header-seconds", "3")[1]["http"]
    assert issubclass(protocol, GuardedProtocol)
    assert protocol.limits.header_seconds == 3
