import pytest

from bootleg_export.card import model_card


@pytest.fixture
def fields(bundle):
    manifest = bundle.manifest
    return {name: getattr(manifest, name) for name in type(manifest).model_fields}


def test_the_card_in_the_bundle_is_written_from_its_manifest(bundle, fields):
    assert bundle.file("README.md").read_text() == model_card(fields)


@pytest.mark.parametrize(
    "fact",
    ["56,789 images", "1,234 steps", "made-up-shapes", "2.00 hours", "an abacus", "f" * 16, "0123abc", "Bootleg"],
)
def test_the_card_states_where_the_weights_come_from(fields, fact):
    assert fact in model_card(fields)


def test_the_card_states_each_probe_beside_its_untrained_twin(fields):
    assert "| knn | made-up-labels | accuracy | 0.625 | 0.125 | k = 20 |" in model_card(fields)


def test_a_card_without_probes_says_that_none_were_run(fields):
    text = model_card({**fields, "probes": ()})
    assert "None were run." in text
    assert "accuracy" not in text


def test_a_probe_without_a_twin_leaves_its_cell_empty(fields):
    (probe,) = fields["probes"]
    text = model_card({**fields, "probes": (probe.model_copy(update={"random_init": None}),)})
    assert "| 0.625 |  | k = 20 |" in text


def test_the_card_states_the_measured_parity_of_every_output(fields):
    text = model_card(fields)
    for row in fields["parity"]:
        assert f"| fp32 | {row.output} | 64 | {row.relative_frobenius:.1e} |" in text


def test_the_card_names_the_embedding_space(fields):
    assert fields["embedding_space"] in model_card(fields)
