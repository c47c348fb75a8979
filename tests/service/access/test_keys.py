import hashlib

import pytest

from bootleg_service.access.keys import MAX_TOKEN_BYTES, Key, KeyRing, new_key, read_keys
from bootleg_service.errors import RequestError, StartupError

HASH = hashlib.sha256(b"one").hexdigest()
OTHER = hashlib.sha256(b"two").hexdigest()


def written(tmp_path, text):
    path = tmp_path / "keys"
    path.write_text(text)
    return path


def test_names_hashes_and_quotas_are_read_and_comments_are_not(tmp_path):
    path = written(tmp_path, f"# keys\n\nsearch {HASH} 600  # the shop\nnightly\t{OTHER}\n")
    assert read_keys(path) == (Key("search", HASH, 600), Key("nightly", OTHER))


def test_a_new_key_opens_and_its_line_does_not_hold_it(tmp_path):
    token, line = new_key("me")
    assert token not in line
    ring = KeyRing(read_keys(written(tmp_path, line)))
    found = ring.find(token.encode())
    assert found is not None
    assert found.name == "me"
    assert new_key("me")[0] != token


def test_every_key_opens_as_itself_and_nothing_else_does():
    ring = KeyRing([Key("a", HASH), Key("b", OTHER)])
    assert ring.find(b"one").name == "a"
    assert ring.find(b"two").name == "b"
    for wrong in (b"", b"On", b"one ", HASH.encode(), b"\xff", b"one" * MAX_TOKEN_BYTES):
        assert ring.find(wrong) is None


@pytest.mark.parametrize("name", ["", "a b", "a#b", "x" * 65])
def test_a_key_is_not_made_for_a_name_that_the_file_cannot_hold(name):
    with pytest.raises(RequestError, match="name"):
        new_key(name)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("search", "1 fields"),
        (f"search {HASH} 5 6", "4 fields"),
        (f"se/arch {HASH}", "name"),
        ("search my-secret-key", "SHA-256"),
        (f"search {HASH.upper()}", "lower-case"),
        (f"search {HASH} 0", "positive"),
        (f"search {HASH} many", "positive"),
    ],
)
def test_a_malformed_line_is_refused_by_its_number_and_never_repeated(tmp_path, line, said):
    with pytest.raises(StartupError, match=said) as refused:
        read_keys(written(tmp_path, f"ok {OTHER}\n{line}\n"))
    assert "line 2" in refused.value.message
    assert "my-secret-key" not in refused.value.message


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_a_file_without_keys_does_not_open_the_service_to_all(tmp_path, text):
    with pytest.raises(StartupError, match="no key"):
        read_keys(written(tmp_path, text))


def test_two_keys_of_one_name_and_a_missing_file_are_refused(tmp_path):
    with pytest.raises(StartupError, match="two keys"):
        read_keys(written(tmp_path, f"a {HASH}\na {OTHER}\n"))
    with pytest.raises(StartupError, match="cannot be read"):
        read_keys(tmp_path / "absent")
