import numpy as np
import pytest
import torch

from bootleg_training.probes import attentive
from bootleg_training.probes.attentive import AttentiveHeads, AttentiveSettings, Tokens, attentive_probe
from bootleg_training.probes.linear import linear_probe

SMALL = AttentiveSettings(iterations=120, batch=64, rates=(1e-5, 5e-2), decays=(1e-3,))


def marked(count, seed):
    """The marked one of 6 tokens tells the class; another token says the opposite, so that the mean says nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    tokens = 0.1 * rng.standard_normal((count, 6, 16)).astype(np.float32)
    places = np.argsort(rng.random((count, 6)), axis=1)[:, :2]
    sign = 2.0 * labels - 1
    tokens[np.arange(count), places[:, 0], 0] += 4
    tokens[np.arange(count), places[:, 0], 1] += 4 * sign
    tokens[np.arange(count), places[:, 1], 1] -= 4 * sign
    return Tokens(tokens.astype(np.float16), torch.from_numpy(labels))


def test_it_learns_where_to_look_when_the_mean_says_nothing():
    train, test = marked(600, 0), marked(300, 1)
    pooled = [torch.from_numpy(side.values.astype(np.float32)).mean(dim=1) for side in (train, test)]
    assert linear_probe(pooled[0], train.labels, pooled[1], test.labels).accuracy < 0.62
    assert attentive_probe(train, test, SMALL).accuracy > 0.97


def test_the_best_of_the_grid_is_taken_and_named():
    found = attentive_probe(marked(300, 0), marked(100, 1), SMALL)
    assert (found.rate, found.decay, found.iterations) == (5e-2, 1e-3, 120)


def test_the_result_repeats():
    short = AttentiveSettings(iterations=10, batch=16)
    one, two = (attentive_probe(marked(60, 0), marked(40, 1), short) for _ in range(2))
    assert one == two


def test_the_test_part_has_no_say_in_the_choice():
    train, test = marked(80, 0), marked(40, 1)
    short = AttentiveSettings(iterations=15, batch=16)
    turned = Tokens(-test.values, 1 - test.labels)
    one, two = attentive_probe(train, test, short), attentive_probe(train, turned, short)
    assert (one.rate, one.decay) == (two.rate, two.decay)


def test_only_the_chosen_member_sees_the_test_part_and_the_held_out_tenth_is_not_trained_on(monkeypatch):
    train, test, scored, trained = marked(50, 0), marked(20, 1), [], []
    real_score, real_train = attentive._accuracies, attentive._train

    def scoring(heads, data, rows):
        scored.append((data is test, len(heads.members), set(rows.tolist())))
        return real_score(heads, data, rows)

    def training(heads, data, rows, *rest):
        assert data is train
        trained.append(set(rows.tolist()))
        return real_train(heads, data, rows, *rest)

    monkeypatch.setattr(attentive, "_accuracies", scoring)
    monkeypatch.setattr(attentive, "_train", training)
    attentive_probe(train, test, AttentiveSettings(iterations=2, batch=8))
    assert [(on_test, members) for on_test, members, _ in scored] == [(False, 30), (True, 1)]
    assert len(scored[0][2]) == 5
    assert not scored[0][2] & trained[0]
    assert len(trained[0]) == 45


@pytest.mark.parametrize(("width", "heads"), [(16, 1), (64, 1), (128, 2), (192, 3), (100, 1), (200, 2)])
def test_there_is_a_head_for_every_64_channels(width, heads):
    assert AttentiveHeads(width, 5, 1, torch.Generator().manual_seed(0)).heads == heads


def plain(member, x_BNW, heads):
    """The same probe as it is usually written: keys and values of every token, the key's bias among them."""
    B, N, W = x_BNW.shape
    d = W // heads
    key_bias = torch.randn(heads, d, generator=torch.Generator().manual_seed(3))  # moves all scores alike
    k = x_BNW @ member["key"].reshape(W, W).T + key_bias.flatten()
    v = x_BNW @ member["value"].permute(1, 0, 2).reshape(W, W) + member["value_bias"]
    q = member["query"].expand(B, heads, d).unsqueeze(2)
    split = (t.view(B, N, heads, d).transpose(1, 2) for t in (k, v))
    seen = torch.nn.functional.scaled_dot_product_attention(q, *split)[:, :, 0].flatten(1)
    return seen @ member["classifier"] + member["classifier_bias"]


def test_the_folded_form_is_the_probe_it_stands_for():
    generator = torch.Generator().manual_seed(0)
    heads = AttentiveHeads(128, 7, 3, generator)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        x = torch.randn(4, 9, 128, generator=generator)
        expected = torch.stack([plain(member, x, heads.heads) for member in heads.members], dim=1)
        torch.testing.assert_close(heads(x), expected, atol=1e-3, rtol=1e-3)


def test_members_do_not_disturb_each_other():
    """A member learns what it would learn alone, even beside one whose rate breaks it."""
    train, test = marked(60, 0), marked(30, 1)

    def weights(rates):
        settings = AttentiveSettings(iterations=5, batch=16, rates=rates, decays=(1e-3,))
        generator = torch.Generator().manual_seed(0)
        heads = AttentiveHeads(16, 2, len(rates), generator)
        attentive._train(heads, train, torch.arange(60), [(rate, 1e-3) for rate in rates], settings, generator)
        return heads.members[0]["query"]

    torch.testing.assert_close(weights((1e-2, 1e30)), weights((1e-2,)), atol=1e-5, rtol=1e-4)
    assert (
        attentive_probe(train, test, AttentiveSettings(iterations=20, rates=(1e-2, 1e30), decays=(0.0,))).rate == 1e-2
    )


@pytest.mark.parametrize(("images", "steps"), [(100, 500), (45_000, 3515), (10**7, 12_500)])
def test_the_length_follows_the_data_between_its_bounds(images, steps):
    assert AttentiveSettings().steps(images) == steps


def test_a_length_that_is_given_is_taken():
    assert AttentiveSettings(iterations=7).steps(10**6) == 7
