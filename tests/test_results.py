"""Published numbers: every table of README and docs equals what the benchmarks wrote."""

from benchmarks import tables


def test_every_table_equals_its_result_file():
    for path in tables.documents():
        text = path.read_text(encoding="utf-8")
        assert tables.render(text) == text, f"{path.name} is stale: run `make results`"


def test_every_result_file_says_where_it_was_measured():
    from benchmarks.result import FOLDER, read_result

    for path in FOLDER.glob("*.json"):
        result = read_result(path.stem)
        assert set(result) == {"hardware", "commit", "command", "date", "rows"}
        assert result["rows"]
