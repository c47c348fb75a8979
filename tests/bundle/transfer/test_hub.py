"""The hub's own library against an endpoint on this machine that speaks as much of the hub as a bundle needs."""

import base64
import json
import re
import sys

import pytest

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.errors import BundleError, BundleTransferError
from bootleg_bundle.manifest import MANIFEST_NAME
from bootleg_bundle.transfer import hub, pull, push
from bootleg_bundle.transfer.hub import HubAddress, parse_address
from tests.bundle.transfer.conftest import DATA_NAME, FILES, Notes
from tests.bundle.transfer.site import Site, cut, status

huggingface_hub = pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_made_up"
RESOLVE = f"/someone/tiny/resolve/{COMMIT}/"


class Hub(Site):
    """One repository; files are committed whole, inside the commit's request."""

    def __init__(self):
        super().__init__()
        self.url = self.url.removesuffix("/models/tiny")
        self.exists, self.commits, self.created, self.seen = True, [], [], []

    def _handler(self):
        site, base = self, super()._handler()

        class Handler(base):
            def do_GET(self):
                site.seen.append((self.command, self.path, self.headers.get("Authorization")))
                if self.path.startswith("/api/models/someone/tiny"):
                    if not site.exists:
                        return status(404, X_Error_Code="RepoNotFound")(self, b"")
                    return answer(self, {"id": "someone/tiny", "modelId": "someone/tiny", "sha": COMMIT})
                revision = re.fullmatch(r"/someone/tiny/resolve/(\w+)/(.+)", self.path)
                if revision is None or revision[1] not in {"main", COMMIT}:
                    return status(404)(self, b"")
                self.path = f"/models/tiny/{revision[2]}"
                return super().do_GET()

            def do_POST(self):
                site.seen.append((self.command, self.path, self.headers.get("Authorization")))
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer(self, site.post(self.path, body))

        return Handler

    def post(self, path, body):
        """What the hub's interface answers."""
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": f"{self.url}/someone/tiny", "name": "someone/tiny"}
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        if "/commit/" in path:
            header, *lines = (json.loads(line) for line in body.splitlines())
            files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines}
            self.files.update(files)
            self.commits.append((header["value"]["summary"], list(files)))
            return {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.url}/c/{COMMIT}"}
        return {}


def answer(handler, fields):
    body = json.dumps(fields).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def hub_site(monkeypatch):
    server = Hub()
    monkeypatch.setenv("HF_TOKEN", "somebody-elses")

    def connect(settings):
        token = settings.token.get_secret_value() if settings.token else False
        return huggingface_hub.HfApi(endpoint=server.url, token=token)

    monkeypatch.setattr(hub, "connect", connect)
    yield server
    server.close()


def test_a_bundle_is_pushed_in_one_commit_and_pulled_again(hub_site, full, tmp_path):
    notes = Notes(token=TOKEN)
    assert push(full.path, "hf:someone/tiny", notes.means)
    assert hub_site.commits == [(f"tiny, bundle {full.sha256[:16]}", [*sorted(FILES), MANIFEST_NAME])]
    (created,) = hub_site.created
    assert created.get("visibility") == "private" or created.get("private") is True  # by version of the library
    assert pull("hf:someone/tiny", tmp_path / "out", notes.means, sha256=full.sha256)
    assert open_bundle(tmp_path / "out").sha256 == full.sha256
    assert not push(full.path, "hf:someone/tiny", notes.means)
    assert len(hub_site.commits) == 1
    assert {token for _, _, token in hub_site.seen} == {f"Bearer {TOKEN}"}


def test_all_files_come_from_the_commit_that_the_revision_named(hub_site, full, tmp_path, notes):
    hub_site.serve_bundle(full)
    assert pull("hf:someone/tiny@main", tmp_path / "out", notes.means)
    asked = [path for _, path, _ in hub_site.seen if "/resolve/" in path]
    assert len(asked) == len(FILES) + 1
    assert all(path.startswith(RESOLVE) for path in asked)


def test_without_a_token_of_ours_the_library_sends_none_of_its_own(hub_site, full, tmp_path, notes):
    hub_site.serve_bundle(full)
    pull("hf:someone/tiny", tmp_path / "out", notes.means)
    assert {token for _, _, token in hub_site.seen} == {None}


def test_a_pull_from_the_hub_is_resumed_like_any_other(hub_site, full, tmp_path, notes):
    hub_site.serve_bundle(full)
    hub_site.faults[DATA_NAME] = [cut(70_000)]
    assert pull("hf:someone/tiny", tmp_path / "out", notes.means)
    assert hub_site.asked("GET", DATA_NAME)[1]["Range"] == "bytes=70000-"


def test_another_bundle_on_the_hub_is_kept_unless_told_otherwise(hub_site, full, other):
    notes = Notes(token=TOKEN)
    hub_site.serve_bundle(other)
    with pytest.raises(BundleError, match="--replace"):
        push(full.path, "hf:someone/tiny", notes.means)
    assert hub_site.commits == []
    assert push(full.path, "hf:someone/tiny", notes.means, replace=True)


def test_a_repository_that_is_not_there_is_refused_in_a_line(hub_site, tmp_path, notes):
    hub_site.exists = False
    with pytest.raises(BundleTransferError, match="hf:someone/tiny@main is not on the hub"):
        pull("hf:someone/tiny", tmp_path / "out", notes.means)


class Api:
    """A client that fails as the library does: with a response, or without."""

    endpoint = "http://127.0.0.1:9"

    def __init__(self, *faults):
        self.faults = list(faults)

    def model_info(self, repository, revision):
        if self.faults:
            raise self.faults.pop(0)
        return type("Info", (), {"sha": COMMIT})


def fault(code, name="HfHubHTTPError"):
    error = type(name, (OSError,), {})("secret text of the server")
    if code is not None:
        error.response = type("Response", (), {"status_code": code})
    return error


@pytest.mark.parametrize(
    ("code", "message"), [(401, "status 401"), (403, "BOOTLEG_BUNDLE_TOKEN"), (404, "not on the hub"), (400, "400")]
)
def test_a_refusal_of_the_hub_is_ours_at_once(code, message, notes):
    api = Api(fault(code), fault(code))
    with pytest.raises(BundleTransferError, match=message) as refused:
        hub.hub_source(HubAddress("a/b", "main"), notes.means.web, notes.means.retry, api)
    assert "secret" not in refused.value.message
    assert len(api.faults) == 1


@pytest.mark.parametrize("first", [fault(429), fault(503), fault(None, "ConnectTimeout")])
def test_a_fault_of_the_hub_that_may_pass_is_waited_out(first, notes):
    place = hub.hub_source(HubAddress("a/b", "main"), notes.means.web, notes.means.retry, Api(first))
    assert place.label.endswith(f"/a/b/resolve/{COMMIT}")
    assert len(notes.waited) == 1


def test_the_real_client_takes_our_token_or_none():
    assert hub.connect(Notes().means.web).token is False
    assert hub.connect(Notes(token=TOKEN).means.web).token == TOKEN


def test_an_address_on_the_hub_is_read():
    assert parse_address("hf:a/b") == HubAddress("a/b", "main")
    assert parse_address("hf:a-1/b.c_d@refs/pr/1") == HubAddress("a-1/b.c_d", "refs/pr/1")


def test_a_missing_library_is_named(monkeypatch, tmp_path, notes):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModuleNotFoundError, match="huggingface_hub"):
        pull("hf:a/b", tmp_path / "out", notes.means)
