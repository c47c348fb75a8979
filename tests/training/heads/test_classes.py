import pytest

from bootleg_bundle.errors import DataError
from bootleg_training.heads.classes import MAX_CLASSES, made_color, numbered_classes, read_classes


def write(tmp_path, text):
    file = tmp_path / "classes.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_a_line_names_a_label_with_its_colour_or_without(tmp_path):
    read = read_classes(write(tmp_path, "sky 70 130 180\ntraffic light\nlane 2\nroad marking 255 255 0\n"))
    assert [entry.name for entry in read] == ["sky", "traffic light", "lane 2", "road marking"]
    assert [entry.color for entry in read] == [(70, 130, 180), made_color(1), made_color(2), (255, 255, 0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sky\n\nroad", "line 2 reads ''"),
        ("sky\nroad 1 2", "line 2 reads 'road 1 2'"),
        ("sky 0 0 256\nroad", "line 1: color"),
        ("1 2 3\nroad", "line 1 reads '1 2 3'"),
        ("sky\nroad\nsky", "'sky' twice"),
        ("sky", "names 1 classes; a head has 2 to 255"),
        ("", "names 0 classes"),
        (b"\xff\xfe", "no text in UTF-8"),
        ("sky\n" + "x" * 101, "line 2: name"),
        ("\n".join(f"c{k}" for k in range(MAX_CLASSES + 1)), "names 256 classes"),
    ],
)
def test_a_file_that_is_off_is_refused_by_its_line(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read_classes(write(tmp_path, text))


def test_made_colours_are_the_same_every_time_and_unlike_each_other():
    colors = [entry.color for entry in numbered_classes(40)]
    assert colors == [entry.color for entry in numbered_classes(40)]
    assert len(set(colors)) == 40
    assert numbered_classes(3)[2].name == "class 2"
