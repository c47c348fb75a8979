import math

import pytest

from bootleg_training.health.figures import Health
from bootleg_training.health.rules import RULES
from bootleg_training.health.verdict import verdict

START = Health(0, rank_me=6.96, cosine=0.736, token_std_layers=(0.74, 0.74, 0.74, 0.74), knn=0.225, knn_queries=600)


def line(step, **changes):
    fields = {"loss": 0.2, "explained": [0.5] * 4, "target_std": [0.6] * 4, "skipped_steps": 0}
    return {"step": step, **fields, **changes}


STEADY = [line(20 * place) for place in range(50)]


def health(step=5000, rank_me=13.6, cosine=0.88, token_std_layers=(0.65, 0.6, 0.55, 0.5), knn=0.367, **changes):
    return Health(
        step, rank_me=rank_me, cosine=cosine, token_std_layers=token_std_layers, knn=knn, knn_queries=600, **changes
    )


# Recorded runs of the nano encoder on CIFAR-10: step, RankMe, k-NN, share of the run, share explained.
HEALTHY = [
    (1000, 6.63, 0.2667, 0.128, 0.52), (2000, 8.72, 0.2917, 0.256, 0.55), (3000, 10.52, 0.3433, 0.384, 0.56),
    (5000, 13.64, 0.3667, 0.640, 0.57), (7813, 15.3, 0.395, 1.0, 0.57),
]  # fmt: skip
PARTLY_COLLAPSED = [
    (400, 4.19, 0.2367, 0.512, 0.38), (200, 4.58, 0.2283, 0.256, 0.36), (782, 3.67, 0.2267, 1.0, 0.49),
    (500, 6.33, 0.2367, 0.213, 0.40), (1000, 4.85, 0.2433, 0.427, 0.46), (500, 4.24, 0.2233, 0.213, 0.45),
    (1000, 4.91, 0.2483, 0.427, 0.50),
]  # fmt: skip


@pytest.mark.parametrize(("step", "rank", "knn", "done", "explained"), HEALTHY)
def test_the_healthy_run_is_ok_at_every_check(step, rank, knn, done, explained):
    recent = [line(step, explained=[explained] * 4)]
    now = Health(step, rank_me=rank, cosine=0.906, token_std_layers=(0.75, 0.72, 0.63, 0.44), knn=knn)
    assert verdict(now, START, recent, done=done).level == "ok"


@pytest.mark.parametrize(("step", "rank", "knn", "done", "explained"), PARTLY_COLLAPSED)
def test_partly_collapsed_runs_are_warned_of_at_every_check(step, rank, knn, done, explained):
    recent = [line(step, explained=[explained] * 4)]
    result = verdict(Health(step, rank_me=rank, knn=knn), Health(0, rank_me=6.96, knn=0.225), recent, done=done)
    assert result.level == "warn"
    assert result.rule in {"rank_fell", "easy_targets"}


@pytest.mark.parametrize(
    ("rule", "changes", "recent", "done"),
    [
        ("not_finite", {"rank_me": math.nan}, STEADY, 0.5),
        ("not_finite", {"token_std_layers": (0.6, math.nan)}, STEADY, 0.5),
        ("targets_vanished", {"token_std_layers": (0.6, 0.049)}, STEADY, 0.5),
        ("rank_vanished", {"rank_me": 2.3}, STEADY, 0.5),
        ("images_alike", {"cosine": 0.996}, STEADY, 0.5),
        ("steps_skipped", {}, [*STEADY, line(1000, skipped_steps=1)], 0.5),
        ("rank_fell", {"rank_me": 5.9}, STEADY, 0.0),
        ("targets_shrink", {"token_std_layers": (0.6, 0.149)}, STEADY, 0.5),
        ("images_near", {"cosine": 0.95}, STEADY, 0.5),
        ("easy_targets", {"knn": 0.259}, STEADY, 0.2),
        ("no_better", {"knn": 0.259}, [line(1, explained=[0.1] * 4)], 0.5),
        ("nothing_explained", {}, [line(1, explained=[0.01, 0.03, -0.2, 0.0])], 0.1),
        ("loss_rises", {}, [*STEADY[:40], *(line(s, loss=0.26) for s in range(1000, 1200, 20))], 0.5),
    ],
)
def test_each_rule_fires_and_says_why(rule, changes, recent, done):
    result = verdict(health(**changes), START, recent, done=done)
    assert result.rule == rule
    assert result.level == next(known.level for known in RULES if known.name == rule)
    assert any(character.isdigit() for character in result.reason)
    assert str(result).startswith(f"verdict: {result.level} ({rule}): ")


@pytest.mark.parametrize(
    ("changes", "recent", "done"),
    [
        ({"rank_me": 5.95}, STEADY, 0.5),
        ({"token_std_layers": (0.6, 0.15)}, STEADY, 0.5),
        ({"cosine": 0.946}, STEADY, 0.5),
        ({"knn": 0.26}, STEADY, 0.2),
        ({"knn": 0.2}, STEADY, 0.19),
        ({"knn": 0.2}, [line(1, explained=[0.29] * 4)], 0.49),
        ({}, [line(1, explained=[0.0] * 4)], 0.09),
        ({}, [line(s, loss=0.2 + s / 1000) for s in range(19)], 0.5),
        ({}, [*STEADY[:40], *(line(s, loss=0.249) for s in range(1000, 1200, 20))], 0.5),
        ({}, [line(1, skipped_steps=5), line(2, skipped_steps=5)], 0.5),
        ({}, [], None),
    ],
)
def test_this_side_of_each_threshold_is_ok(changes, recent, done):
    assert verdict(health(**changes), START, recent, done=done).level == "ok"


def test_the_gravest_rule_wins():
    now = health(rank_me=1.0, cosine=1.0, token_std_layers=(0.0, 0.0), knn=0.1)
    assert verdict(now, START, [], done=0.9).rule == "targets_vanished"
    levels = [rule.level for rule in RULES]
    assert levels == sorted(levels, key=["collapsed", "warn"].index)
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_more_queries_tell_smaller_gains():
    few, many = (Health(1, knn=0.25, knn_queries=n) for n in (600, 10_000))
    start = Health(0, knn=0.225)
    assert verdict(few, start, STEADY, done=0.3).rule == "easy_targets"
    assert verdict(many, start, STEADY, done=0.3).level == "ok"


def test_a_twin_that_cannot_be_beaten_is_no_reproach():
    assert verdict(Health(1, knn=1.0), Health(0, knn=1.0), STEADY, done=1.0).level == "ok"


def test_rules_rest_where_nothing_was_measured():
    result = verdict(Health(10), Health(0), [], done=1.0)
    assert (result.level, result.rule) == ("ok", "healthy")
    assert "untrained twin was not measured" in result.reason


def test_an_older_log_s_target_std_stands_in_and_nulls_are_passed_over():
    assert verdict(Health(1), START, [line(1, target_std=[0.6, 0.01])]).rule == "targets_vanished"
    broken = [line(s, loss=None, explained=None, target_std=[None, None], skipped_steps=None) for s in range(30)]
    assert verdict(health(), START, broken, done=0.5).level == "ok"
