import hashlib
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.errors import (
    BundleError,
    BundleFileError,
    BundleTransferError,
    ConfigError,
    FormatVersionError,
    ManifestError,
)
from bootleg_bundle.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES
from bootleg_bundle.transfer import pull
from tests import bundles
from tests.bundle.transfer.conftest import DATA_NAME, FILES, HEAD_NAME, Notes
from tests.bundle.transfer.site import cut, hang_up, says, silence, status, unending, whole


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def served(site, full):
    site.serve_bundle(full)
    return site


def partial(out):
    return out.with_name(out.name + ".partial")


def same(out, bundle):
    return {name: (out / name).read_bytes() for name in [*FILES, MANIFEST_NAME]} == {
        name: (bundle.path / name).read_bytes() for name in [*FILES, MANIFEST_NAME]
    }


def test_a_bundle_is_pulled_over_http_and_nothing_stays_beside_it(served, full, out, notes):
    assert pull(served.url, out, notes.means)
    assert same(out, full)
    assert open_bundle(out).sha256 == full.sha256
    assert not partial(out).exists()
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [MANIFEST_NAME, "heads", *(name for name in FILES if "/" not in name)]
    )
    total = sum(entry.bytes for entry in full.manifest.files.values())
    assert notes.shown[-1] == (total, total)
    assert [done for done, _ in notes.shown] == sorted(done for done, _ in notes.shown)


@pytest.mark.parametrize("address", ["{}", "file://{}", "file://localhost{}"])
def test_a_bundle_is_pulled_from_a_directory(full, out, notes, address):
    assert pull(address.format(full.path), out, notes.means)
    assert same(out, full)


def test_the_same_bundle_is_already_there_and_no_file_is_asked_for(served, out, notes):
    pull(served.url, out, notes.means)
    served.log.clear()
    assert not pull(served.url, out, notes.means)
    assert [name for _, name, _ in served.log] == [MANIFEST_NAME]


def test_a_pinned_bundle_that_is_there_needs_no_request(served, full, out, notes):
    pull(served.url, out, notes.means)
    served.log.clear()
    assert not pull(served.url, out, notes.means, sha256=full.sha256)
    assert served.log == []


def test_a_pin_takes_that_bundle_and_no_other(served, full, out, notes):
    with pytest.raises(ManifestError, match=full.sha256):
        pull(served.url, out, notes.means, sha256="0" * 64)
    assert not out.exists()
    assert [name for _, name, _ in served.log] == [MANIFEST_NAME]
    assert pull(served.url, out, notes.means, sha256=full.sha256)


def test_a_cut_connection_goes_on_by_range(served, full, out, notes):
    served.faults[DATA_NAME] = [cut(70_000), cut(120_000)]
    assert pull(served.url, out, notes.means)
    assert same(out, full)
    assert [headers.get("Range") for headers in served.asked("GET", DATA_NAME)] == [
        None,
        "bytes=70000-",
        "bytes=120000-",
    ]
    assert "70,000 of 200,000 bytes" in notes.said[0]


def test_a_server_without_ranges_sends_that_file_from_its_beginning(served, full, out, notes):
    served.ranges = False
    served.faults[DATA_NAME] = [cut(70_000)]
    assert pull(served.url, out, notes.means)
    assert same(out, full)


def test_a_server_without_ranges_that_always_cuts_is_given_up(served, out, notes):
    served.faults[DATA_NAME] = [cut(70_000, ranges=False)] * 50
    with pytest.raises(BundleTransferError, match=f"{DATA_NAME}; gave up after 6 attempts"):
        pull(served.url, out, notes.means)
    assert len(served.asked("GET", DATA_NAME)) == 6  # after the first, no attempt brought a new byte
    assert not out.exists()


def test_a_server_that_cuts_ever_later_is_not_given_up(served, full, out, notes):
    served.faults[DATA_NAME] = [cut(10_000 * i) for i in range(1, 15)]
    assert pull(served.url, out, notes.means)
    assert same(out, full)
    assert set(notes.waited) == {0.5}  # each new byte makes patience new


def test_a_pull_that_failed_goes_on_where_it_stopped(served, full, out, notes):
    served.faults[DATA_NAME] = [cut(70_000), *[hang_up] * 10]
    with pytest.raises(BundleTransferError, match=DATA_NAME):
        pull(served.url, out, notes.means)
    assert not out.exists()
    assert (partial(out) / DATA_NAME).stat().st_size == 70_000
    kept = [name for name in FILES if (partial(out) / name).exists() and name != DATA_NAME]
    served.log.clear()
    served.faults.clear()
    assert pull(served.url, out, notes.means)
    assert same(out, full)
    assert [headers.get("Range") for headers in served.asked("GET", DATA_NAME)] == ["bytes=70000-"]
    assert kept
    assert all(not served.asked("GET", name) for name in kept)


def test_kept_bytes_that_were_damaged_are_fetched_again(served, full, out, notes):
    served.faults[DATA_NAME] = [cut(70_000), *[hang_up] * 10]
    with pytest.raises(BundleTransferError):
        pull(served.url, out, notes.means)
    served.faults.clear()
    for name in (bundles.GRAPH_NAME, DATA_NAME):
        target = partial(out) / name
        data = bytearray(target.read_bytes())
        data[5] ^= 1
        target.write_bytes(data)
    assert pull(served.url, out, notes.means)
    assert same(out, full)


def test_kept_bytes_beyond_the_size_are_thrown_away(served, full, out, notes):
    served.faults[DATA_NAME] = [cut(70_000), *[hang_up] * 10]
    with pytest.raises(BundleTransferError):
        pull(served.url, out, notes.means)
    served.faults.clear()
    (partial(out) / DATA_NAME).write_bytes(b"x" * 300_000)
    assert pull(served.url, out, notes.means)
    assert same(out, full)


def test_a_server_that_refuses_the_range_is_asked_for_the_whole(served, full, out, notes):
    served.faults[DATA_NAME] = [cut(70_000), status(416)]
    assert pull(served.url, out, notes.means)
    assert same(out, full)


def test_parts_of_another_manifest_are_thrown_away(served, full, other, out, notes):
    served.serve_bundle(other)
    served.faults[DATA_NAME] = [cut(70_000), *[hang_up] * 10]
    with pytest.raises(BundleTransferError):
        pull(served.url, out, notes.means)
    (partial(out) / "stray").write_text("of the other")
    served.faults.clear()
    served.serve_bundle(full)
    served.log.clear()
    assert pull(served.url, out, notes.means)
    assert same(out, full)
    assert not (out / "stray").exists()
    assert "Range" not in served.asked("GET", DATA_NAME)[0]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_at_the_source_is_refused_by_the_files_name(served, out, notes, name):
    data = bytearray(served.files[name])
    data[len(data) // 2] ^= 1
    served.files[name] = bytes(data)
    with pytest.raises(BundleFileError, match=f"^{name} .*SHA-256"):
        pull(served.url, out, notes.means)
    assert not out.exists()
    assert len(served.asked("GET", name)) == 1


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x"])
def test_a_file_of_another_length_is_refused_before_its_first_byte(served, full, out, notes, name, change):
    served.files[name] = change(served.files[name])
    sizes = f"has {len(served.files[name]):,} bytes; the manifest says {full.manifest.files[name].bytes:,}"
    with pytest.raises(BundleFileError, match=f"^{name} .*{sizes}"):
        pull(served.url, out, notes.means)
    assert not (partial(out) / name).stat().st_size
    assert not out.exists()


def test_a_huge_length_is_refused_before_its_first_byte(served, out, notes):
    served.faults[DATA_NAME] = [says(10**15)]
    with pytest.raises(BundleFileError, match="has 1,000,000,000,000,000 bytes"):
        pull(served.url, out, notes.means)


def test_a_file_without_end_is_read_no_further_than_its_size(served, full, out, notes):
    served.faults[DATA_NAME] = [unending]
    with pytest.raises(BundleFileError, match="SHA-256"):
        pull(served.url, out, notes.means)
    assert not (partial(out) / DATA_NAME).stat().st_size


@pytest.mark.parametrize("fault", [says(MAX_MANIFEST_BYTES + 1), unending])
def test_a_manifest_over_the_limit_is_refused(served, out, notes, fault):
    served.faults[MANIFEST_NAME] = [fault]
    with pytest.raises(ManifestError, match=f"{MAX_MANIFEST_BYTES:,}"):
        pull(served.url, out, notes.means)
    assert not partial(out).exists()


def test_a_short_manifest_is_asked_for_again(served, full, out, notes):
    served.faults[MANIFEST_NAME] = [cut(100)]
    assert pull(served.url, out, notes.means)
    assert same(out, full)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_is_refused_by_its_name_at_once(served, out, notes, name):
    del served.files[name]
    with pytest.raises(BundleFileError, match=f"^{name} is missing"):
        pull(served.url, out, notes.means)
    assert len(served.asked("GET", name)) == 1
    assert not out.exists()


def test_a_place_without_a_manifest_is_no_bundle(site, tmp_path, out, notes):
    for address in (site.url, str(tmp_path / "absent"), str(tmp_path)):
        with pytest.raises(BundleTransferError, match=r"it has no manifest\.json"):
            pull(address, out, notes.means)
    assert notes.waited == []


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_waited_out(served, full, out, notes, code):
    served.faults[MANIFEST_NAME] = [status(code)]
    served.faults[HEAD_NAME] = [status(code), status(code)]
    assert pull(served.url, out, notes.means)
    assert same(out, full)
    assert notes.waited == [0.5, 0.5, 1.0]
    assert f"status {code}" in notes.said[0]


def test_the_servers_wait_is_honoured(served, out, notes):
    served.faults[MANIFEST_NAME] = [status(429, Retry_After="7")]
    assert pull(served.url, out, notes.means)
    assert notes.waited == [7.0]


def test_a_wait_that_is_too_long_ends_the_pull(served, out, notes):
    served.faults[MANIFEST_NAME] = [status(503, Retry_After="3600")]
    with pytest.raises(BundleTransferError, match="asks to wait 3600 s"):
        pull(served.url, out, notes.means)
    assert notes.waited == []


@pytest.mark.parametrize("code", [400, 401, 403, 405, 501])
def test_a_status_that_stays_is_not_tried_again(served, out, notes, code):
    served.faults[MANIFEST_NAME] = [status(code)]
    with pytest.raises(BundleTransferError, match=f"status {code}"):
        pull(served.url, out, notes.means)
    assert len(served.log) == 1


def test_a_silent_server_is_given_up(served, out):
    notes, over = Notes(timeout=0.05), threading.Event()
    served.always = silence(over)
    try:
        with pytest.raises(BundleTransferError, match="gave up after 6 attempts"):
            pull(served.url, out, notes.means)
    finally:
        over.set()
    assert len(notes.waited) == 5


def test_a_port_where_nobody_listens_is_given_up(site, out, notes):
    site.close()
    with pytest.raises(BundleTransferError, match=r"ConnectionRefusedError.*gave up after 6"):
        pull(site.url, out, notes.means)


def test_a_redirect_is_followed(served, full, out, notes):
    def elsewhere(handler, _):
        status(302, Location="/models/tiny/moved")(handler, b"")

    served.files["moved"] = served.files.pop(DATA_NAME)
    served.faults[DATA_NAME] = [elsewhere]
    assert pull(served.url, out, notes.means)
    assert same(out, full)


def test_a_redirect_in_a_circle_is_refused(served, out, notes):
    served.faults[MANIFEST_NAME] = [status(302, Location=f"{served.url}/{MANIFEST_NAME}")] * 50
    with pytest.raises(BundleTransferError, match="circle"):
        pull(served.url, out, notes.means)
    assert len(served.log) < 10


def test_a_chain_of_redirects_without_end_is_refused(served, out, notes):
    for i in range(50):
        served.faults[f"hop{i}"] = [status(307, Location=f"/models/tiny/hop{i + 1}")]
    served.faults[MANIFEST_NAME] = [status(302, Location="/models/tiny/hop0")]
    with pytest.raises(BundleTransferError, match="circle"):
        pull(served.url, out, notes.means)
    assert len(served.log) < 10


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://x"])
def test_a_redirect_out_of_http_is_refused(served, out, notes, to):
    served.faults[MANIFEST_NAME] = [status(302, Location=to)]
    with pytest.raises(BundleTransferError, match="redirects"):
        pull(served.url, out, notes.means)
    assert len(served.log) == 1


def test_a_compressed_answer_is_refused(served, out, notes):
    served.faults[MANIFEST_NAME] = [says(3, b"abc", Content_Encoding="gzip")]
    with pytest.raises(BundleTransferError, match="compressed"):
        pull(served.url, out, notes.means)
    assert served.log[0][2]["Accept-Encoding"] == "identity"


def test_a_part_that_does_not_say_where_it_begins_is_refused(served, out, notes):
    def part(handler, _):
        handler.send_response(206)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    served.faults[DATA_NAME] = [cut(70_000), part]
    with pytest.raises(BundleTransferError, match="does not say which"):
        pull(served.url, out, notes.means)


def test_a_part_that_begins_elsewhere_is_not_taken_for_the_one_asked_for(served, full, out, notes):
    def wrong(handler, data):
        handler.headers.replace_header("Range", "bytes=50000-")
        whole(handler, data)

    served.faults[DATA_NAME] = [cut(70_000), wrong]
    with pytest.raises(BundleTransferError, match="another part"):
        pull(served.url, out, notes.means)


def edited(served, change):
    fields = json.loads(served.files[MANIFEST_NAME])
    change(fields)
    served.files[MANIFEST_NAME] = json.dumps(fields).encode()


@pytest.mark.parametrize("path", ["../evil", "/tmp/evil", "a/../../evil", "a\\b", MANIFEST_NAME, f"{DATA_NAME}/x"])
def test_a_path_outside_is_refused_before_any_file_is_asked_for(served, out, notes, path):
    edited(served, lambda fields: fields["files"].update({path: {"sha256": "0" * 64, "bytes": 1}}))
    with pytest.raises(ManifestError, match="files"):
        pull(served.url, out, notes.means)
    assert [name for _, name, _ in served.log] == [MANIFEST_NAME]
    assert not partial(out).exists()


def test_a_newer_format_is_refused_before_any_file_is_asked_for(served, out, notes):
    edited(served, lambda fields: fields.update(format_version=2))
    with pytest.raises(FormatVersionError, match="version 2"):
        pull(served.url, out, notes.means)
    assert [name for _, name, _ in served.log] == [MANIFEST_NAME]


def test_a_bundle_that_the_disk_cannot_hold_is_refused_before_any_file_is_asked_for(served, out, notes):
    edited(served, lambda fields: fields["files"].update({"huge": {"sha256": "0" * 64, "bytes": 10**18}}))
    with pytest.raises(BundleTransferError, match="MB free"):
        pull(served.url, out, notes.means)
    assert [name for _, name, _ in served.log] == [MANIFEST_NAME]


@pytest.mark.parametrize("name", [*FILES, MANIFEST_NAME])
def test_a_link_in_a_source_directory_is_refused(full, tmp_path, out, notes, name):
    (full.path / name).rename(tmp_path / "elsewhere")
    (full.path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleFileError, match=f"{name} is a link"):
        pull(str(full.path), out, notes.means)


def test_another_bundle_is_kept_unless_told_otherwise(served, full, other, out, notes):
    pull(str(other.path), out, notes.means)
    with pytest.raises(BundleError, match="--replace"):
        pull(served.url, out, notes.means)
    assert same(out, other)
    assert pull(served.url, out, notes.means, replace=True)
    assert same(out, full)
    assert sorted(path.name for path in out.parent.iterdir()) == ["full", "other", "out"]


def test_a_damaged_copy_is_replaced_when_told(served, full, out, notes):
    pull(served.url, out, notes.means)
    (out / DATA_NAME).write_bytes(b"damaged")
    with pytest.raises(BundleError, match="damaged"):
        pull(served.url, out, notes.means)
    assert pull(served.url, out, notes.means, replace=True)
    assert same(out, full)


def test_an_empty_directory_is_filled(served, full, out, notes):
    out.mkdir()
    assert pull(served.url, out, notes.means)
    assert same(out, full)


def test_what_is_no_bundle_is_never_replaced(served, out, notes):
    out.mkdir()
    (out / "thesis.txt").write_text("ten years")
    for replace in (False, True):
        with pytest.raises(BundleError):
            pull(served.url, out, notes.means, replace=replace)
    assert (out / "thesis.txt").read_text() == "ten years"


def test_a_bundle_with_somebodys_file_in_it_is_not_replaced(served, other, out, notes):
    pull(str(other.path), out, notes.means)
    (out / "heads" / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"heads/notes\.txt"):
        pull(served.url, out, notes.means, replace=True)
    assert (out / "heads" / "notes.txt").read_text() == "mine"


def test_a_linked_directory_is_not_replaced(served, other, tmp_path, out, notes):
    out.symlink_to(other.path)
    with pytest.raises(BundleError, match="no directory"):
        pull(served.url, out, notes.means, replace=True)


def test_a_linked_partial_directory_is_refused(served, tmp_path, out, notes):
    (tmp_path / "trap").mkdir()
    partial(out).symlink_to(tmp_path / "trap")
    with pytest.raises(BundleError, match="is a link"):
        pull(served.url, out, notes.means)


@pytest.mark.parametrize("name", [DATA_NAME, "heads", MANIFEST_NAME])
def test_a_link_among_the_parts_is_not_written_through(served, full, tmp_path, out, notes, name):
    served.faults[max(FILES)] = [hang_up] * 10
    with pytest.raises(BundleTransferError):
        pull(served.url, out, notes.means)
    served.faults.clear()
    victim = tmp_path / "victim"
    (partial(out) / name).rename(victim)
    (partial(out) / name).symlink_to(victim)
    (victim / "road.onnx" if victim.is_dir() else victim).write_bytes(b"precious")
    assert pull(served.url, out, notes.means)
    assert (victim / "road.onnx" if victim.is_dir() else victim).read_bytes() == b"precious"
    assert same(out, full)


def test_a_source_that_was_damaged_between_two_pulls_is_refused(served, out, notes):
    served.faults[DATA_NAME] = [cut(70_000), *[hang_up] * 10]
    with pytest.raises(BundleTransferError):
        pull(served.url, out, notes.means)
    served.faults.clear()
    served.log.clear()
    served.files[DATA_NAME] = bytes(200_000)
    served.faults[DATA_NAME] = [None] * 2 + [status(404)] * 9  # ends a pull that would go on for ever
    with pytest.raises(BundleFileError, match=f"^{DATA_NAME} .*SHA-256"):
        pull(served.url, out, notes.means)
    assert [headers.get("Range") for headers in served.asked("GET", DATA_NAME)] == ["bytes=70000-", None]


def test_a_file_that_is_damaged_after_it_came_is_refused_before_the_bundle_has_its_name(served, out, notes):
    def damage(handler, data):
        path = partial(out) / min(FILES)
        path.write_bytes(bytes(path.stat().st_size))
        whole(handler, data)

    served.faults[max(FILES)] = [damage]
    with pytest.raises(BundleFileError, match=f"^{min(FILES)} .*SHA-256"):
        pull(served.url, out, notes.means)
    assert not out.exists()


def test_pulls_into_one_directory_take_turns(served, full, out):
    """Two pulls at once: the second waits for the first, and finds the bundle there; each file was sent once."""
    first_is_in, may_go_on = threading.Event(), threading.Event()

    def slow(handler, data):
        first_is_in.set()
        may_go_on.wait(10)
        whole(handler, data)

    served.faults[DATA_NAME] = [slow]
    results, said = {}, []

    def run(name, notes):
        results[name] = pull(served.url, out, notes.means)

    one, two = Notes(), Notes()
    two.said = said
    waiting = threading.Event()
    object.__setattr__(two.means, "say", lambda line: (said.append(line), waiting.set()))
    threads = [threading.Thread(target=run, args=("first", one)), threading.Thread(target=run, args=("second", two))]
    threads[0].start()
    assert first_is_in.wait(10)
    threads[1].start()
    assert waiting.wait(10)
    may_go_on.set()
    for thread in threads:
        thread.join(10)
    assert results == {"first": True, "second": False}
    assert "another pull" in said[0]
    assert same(out, full)
    assert not partial(out).exists()
    assert len(served.asked("GET", DATA_NAME)) == 1


def test_many_pulls_at_once_leave_one_whole_bundle(served, full, out):
    results = []
    threads = [threading.Thread(target=lambda: results.append(pull(served.url, out, Notes().means))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == [False] * 7 + [True]
    assert same(out, full)
    assert sorted(path.name for path in out.parent.iterdir()) == ["full", "out"]


def test_a_directory_that_settles_between_two_looks_at_it_is_made_again(served, full, out, monkeypatch):
    """Another pull's directory is there when this one makes its own, and is renamed before this one opens it."""
    make, met = Path.mkdir, []

    def mkdir(path, *arguments, **options):
        if path == partial(out) and not met:
            met.append(path)
            raise FileExistsError(path)
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert pull(served.url, out, Notes().means)
    assert met
    assert same(out, full)


def test_the_next_pull_goes_on_when_one_was_killed(served, full, out, notes):
    """A killed process leaves its parts, and a lock that nobody holds."""
    script = f"""
from pathlib import Path
from bootleg_bundle.transfer import Means, pull
pull({served.url!r}, Path({str(out)!r}), Means())
"""

    def kill(handler, data):
        cut(70_000)(handler, data)
        child.kill()
        child.wait(10)

    served.faults[DATA_NAME] = [kill]
    child = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    assert child.wait(30) == -signal.SIGKILL
    assert (partial(out) / ".lock").exists()
    assert not out.exists()
    assert pull(served.url, out, notes.means)
    assert same(out, full)


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/x",
        "ftp://host/x",
        "file://elsewhere/x",
        "http://",
        "https:///x",
        "http://u:secret@h/x",
        "http://h/?k=secret",
        "http://h/a b",
        "http://h:99999/",
        "hf:one",
        "hf:a/b@",
        "hf:../x",
        "hf:a/b/c",
    ],
)
def test_an_address_that_is_none_is_refused_and_its_secret_is_not_repeated(out, notes, address):
    with pytest.raises(ConfigError) as refused:
        pull(address, out, notes.means)
    assert "secret" not in refused.value.message


def test_the_manifest_lands_as_it_was_sent_to_the_last_byte(served, out, notes):
    served.files[MANIFEST_NAME] = served.files[MANIFEST_NAME].replace(b"\n", b" \n")
    pull(served.url, out, notes.means)
    assert (
        hashlib.sha256((out / MANIFEST_NAME).read_bytes()).digest()
        == hashlib.sha256(served.files[MANIFEST_NAME]).digest()
    )
