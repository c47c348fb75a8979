"""Who sees the token, and what an address may be."""

import pytest

from bootleg_bundle.manifest import MANIFEST_NAME
from bootleg_bundle.transfer import Means, pull, push
from bootleg_bundle.transfer.web import WebPlace, WebSettings
from tests.bundle.transfer.conftest import DATA_NAME, Notes
from tests.bundle.transfer.site import Site, status

TOKEN = "tok-0123456789"


@pytest.fixture
def elsewhere():
    server = Site()
    yield server
    server.close()


@pytest.fixture
def notes():
    return Notes(token=TOKEN)


def tokens(site):
    return [headers.get("Authorization") for _, _, headers in site.log]


def test_the_token_goes_to_the_server_on_this_machine(site, full, tmp_path, notes):
    push(full.path, site.url, notes.means)
    pull(site.url, tmp_path / "out", notes.means)
    assert set(tokens(site)) == {f"Bearer {TOKEN}"}


def test_without_a_token_none_is_sent(site, full):
    push(full.path, site.url, Notes().means)
    assert set(tokens(site)) == {None}


def test_a_redirect_to_another_host_does_not_carry_the_token(site, elsewhere, full, tmp_path, notes):
    site.serve_bundle(full)
    elsewhere.serve_bundle(full)
    site.faults[DATA_NAME] = [status(302, Location=f"{elsewhere.url}/{DATA_NAME}")]
    pull(site.url, tmp_path / "out", notes.means)
    assert set(tokens(site)) == {f"Bearer {TOKEN}"}
    assert tokens(elsewhere) == [None]


def test_a_redirect_that_comes_back_does_not_carry_the_token_either(site, elsewhere, full, tmp_path, notes):
    site.serve_bundle(full)
    site.faults[DATA_NAME] = [status(302, Location=f"{elsewhere.url}/{DATA_NAME}")]
    elsewhere.faults[DATA_NAME] = [status(302, Location=f"{site.url}/{DATA_NAME}")]
    pull(site.url, tmp_path / "out", notes.means)
    assert tokens(elsewhere) == [None]
    assert [headers.get("Authorization") for headers in site.asked("GET", DATA_NAME)] == [f"Bearer {TOKEN}", None]


def test_a_redirect_on_the_same_host_carries_the_token_and_the_range(site, full, tmp_path, notes):
    site.serve_bundle(full)
    site.files["moved"] = site.files[DATA_NAME]
    site.faults[DATA_NAME] = [status(302, Location="/models/tiny/moved")]
    with WebPlace(site.url, notes.means.web).open(DATA_NAME, 70_000) as stream:
        assert stream.start == 70_000
        assert stream.read(10) == site.files["moved"][70_000:70_010]
    assert tokens(site) == [f"Bearer {TOKEN}"] * 2


def test_the_token_is_not_sent_in_the_clear_and_the_user_is_told(site, full, tmp_path):
    """A proxy stands for the network: it sees what leaves this machine."""
    site.serve_bundle(full)
    said = []
    proxied = WebSettings(token=TOKEN, proxies={"http": site.url})
    assert pull("http://models.example/models/tiny", tmp_path / "out", Means(web=proxied, say=said.append))
    assert site.log
    assert set(tokens(site)) == {None}
    assert said == ["the token is not sent to http://models.example/models/tiny: it is not https"]


def test_this_machine_is_reached_without_the_proxy(site, elsewhere, full, tmp_path):
    site.serve_bundle(full)
    settings = WebSettings(token=TOKEN, proxies={"http": elsewhere.url})
    assert pull(site.url, tmp_path / "out", Means(web=settings))
    assert elsewhere.log == []


@pytest.mark.parametrize(
    ("base", "withheld"),
    [
        ("https://models.example/a", False),
        ("http://models.example/a", True),
        ("http://localhost/a", False),
        ("http://127.0.0.9:80/a", False),
        ("http://[::1]:80/a", False),
        ("http://127.0.0.1.models.example/a", True),
        ("http://localhost.models.example/a", True),
        ("http://10.0.0.1/a", True),
        ("HTTP://models.example/a", True),
    ],
)
def test_the_token_is_withheld_where_others_could_read_it(base, withheld):
    assert WebPlace(base, WebSettings(token=TOKEN)).withheld is withheld


def test_the_token_is_in_no_message_and_no_repr(site, tmp_path, notes):
    site.faults[MANIFEST_NAME] = [status(401)]
    with pytest.raises(Exception, match="BOOTLEG_BUNDLE_TOKEN") as refused:
        pull(site.url, tmp_path / "out", notes.means)
    assert TOKEN not in "".join([str(refused.value), *notes.said, repr(notes.means), repr(notes.means.web)])
