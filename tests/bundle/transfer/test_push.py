import pytest

from bootleg_bundle.bundle import open_bundle
from bootleg_bundle.errors import BundleError, BundleFileError, BundleTransferError
from bootleg_bundle.manifest import MANIFEST_NAME
from bootleg_bundle.transfer import pull, push
from tests.bundle.transfer.conftest import DATA_NAME, FILES, HEAD_NAME
from tests.bundle.transfer.site import hang_up, says, status


def put(site):
    return [name for method, name, _ in site.log if method == "PUT"]


def test_what_was_pushed_is_pulled_and_the_manifest_went_last(site, full, tmp_path, notes):
    assert push(full.path, site.url, notes.means)
    assert sorted(put(site)) == sorted([*FILES, MANIFEST_NAME])
    assert put(site)[-1] == MANIFEST_NAME
    assert notes.shown[-1][0] == notes.shown[-1][1] == sum(map(len, site.files.values()))
    assert pull(site.url, tmp_path / "out", notes.means)
    assert open_bundle(tmp_path / "out").sha256 == full.sha256


@pytest.mark.parametrize("address", ["{}", "file://{}"])
def test_a_bundle_is_pushed_to_a_directory(full, tmp_path, notes, address):
    target = tmp_path / "far" / "away"
    assert push(full.path, address.format(target), notes.means)
    assert open_bundle(target).sha256 == full.sha256
    assert not push(full.path, address.format(target), notes.means)


def test_the_same_bundle_is_not_sent_twice(site, full, notes):
    push(full.path, site.url, notes.means)
    site.log.clear()
    assert not push(full.path, site.url, notes.means)
    assert put(site) == []


def test_another_bundle_is_kept_unless_told_otherwise(site, full, other, notes):
    push(other.path, site.url, notes.means)
    site.log.clear()
    with pytest.raises(BundleError, match="--replace"):
        push(full.path, site.url, notes.means)
    assert put(site) == []
    assert push(full.path, site.url, notes.means, replace=True)
    assert site.files[MANIFEST_NAME] == (full.path / MANIFEST_NAME).read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_bundle_is_not_sent_at_all(site, full, notes, name):
    data = bytearray((full.path / name).read_bytes())
    data[-1] ^= 1
    (full.path / name).write_bytes(data)
    with pytest.raises(BundleFileError, match=f"^{name} .*SHA-256"):
        push(full.path, site.url, notes.means)
    assert site.log == []


def test_a_file_that_changes_on_the_way_is_never_sent_whole(site, full, notes):
    assert min(FILES) != HEAD_NAME

    def damage(handler, _):
        data = bytearray((full.path / HEAD_NAME).read_bytes())
        data[0] ^= 1
        (full.path / HEAD_NAME).write_bytes(data)
        status(201)(handler, b"")

    site.faults[min(FILES)] = [damage]
    with pytest.raises(BundleFileError, match=f"{HEAD_NAME} was changed while it was sent"):
        push(full.path, site.url, notes.means)
    assert HEAD_NAME not in site.files
    assert MANIFEST_NAME not in site.files


@pytest.mark.parametrize("fault", [status(500), status(503), status(429), hang_up])
def test_a_fault_that_may_pass_is_waited_out(site, full, notes, fault):
    site.faults[DATA_NAME] = [fault]
    assert push(full.path, site.url, notes.means)
    assert put(site).count(DATA_NAME) == 2
    assert site.files[DATA_NAME] == (full.path / DATA_NAME).read_bytes()
    assert notes.waited == [0.5]


@pytest.mark.parametrize("code", [401, 403, 404, 405, 409, 413])
def test_a_place_that_takes_no_files_is_left_at_once(site, full, notes, code):
    site.faults[min(FILES)] = [status(code)]
    with pytest.raises(BundleTransferError, match=str(code)):
        push(full.path, site.url, notes.means)
    assert len(put(site)) == 1


def test_a_redirected_upload_is_refused(site, full, notes):
    site.faults[min(FILES)] = [status(307, Location="/models/tiny/x")]
    with pytest.raises(BundleTransferError, match="redirects an upload"):
        push(full.path, site.url, notes.means)


def test_a_place_with_an_endless_manifest_is_not_read_on(site, full, notes):
    site.faults[MANIFEST_NAME] = [says(10**12)]
    with pytest.raises(BundleError, match="limit"):
        push(full.path, site.url, notes.means)
