import itertools
import re
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from bootleg_service.batching.thread import EngineThread
from bootleg_service.metrics import BYTES, SECONDS, Metrics, Read
from bootleg_service.stages import STAGES

from .serving import sample

DOCUMENT = Path(__file__).parents[2] / "docs/metrics.md"
ROW = re.compile(r"\| `([a-z_]+)` \| (counter|gauge|histogram) \| ([^|]*) ?\| (.+) \|")


def registered():
    """Each metric as the document has it: exposed name, type, labels, description."""
    metrics = Metrics()
    labels = {each._name: each._labelnames for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)}
    labels |= {each._name: ("model",) for each in vars(metrics).values() if isinstance(each, Read)}
    for family in metrics.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        yield name, family.type, tuple(labels.get(family.name, ())), family.documentation


def documented():
    for name, kind, labels, says in ROW.findall(DOCUMENT.read_text(encoding="utf-8")):
        yield name, kind, tuple(re.findall(r"`(\w+)`", labels)), says


def test_two_instances_share_nothing():
    one, other = Metrics(), Metrics()
    one.of_model("m").failed("ordinary")
    assert b'bootleg_batch_failures_total{fault="ordinary",model="m"} 1.0' in one.render()
    assert b"bootleg_batch_failures_total{" not in other.render()


def test_every_metric_has_the_prefix_of_the_project_and_a_description():
    for metric in Metrics().registry.collect():
        assert metric.name.startswith(("bootleg_", "process_"))  # the latter are the names that everybody uses
        assert metric.documentation


def test_the_table_of_metrics_in_the_documents_is_the_registry():
    assert list(documented()) == list(registered())


def test_the_table_of_stages_in_the_documents_has_them_all():
    table = DOCUMENT.read_text(encoding="utf-8").partition("| stage | of |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == STAGES


def test_buckets_are_geometric_from_a_hundred_microseconds():
    assert SECONDS[0] == pytest.approx(1e-4)
    assert [b / a for a, b in itertools.pairwise(SECONDS)] == pytest.approx([2] * (len(SECONDS) - 1))
    assert 10 < SECONDS[-1] < 20
    assert BYTES[-1] == 64 * 2**20


def test_a_model_has_the_same_metrics_each_time_it_is_asked_for():
    metrics = Metrics()
    assert metrics.of_model("a") is metrics.of_model("a")
    metrics.of_model("a").batch_size.observe(3)
    metrics.of_model("b").batch_size.observe(4)
    assert sample(metrics, "bootleg_batch_size_sum", model="a") == 3
    assert sample(metrics, "bootleg_batch_size_sum") == 7


@pytest.mark.anyio
async def test_the_busy_time_of_an_engine_counts_the_call_that_runs_and_never_goes_back():
    thread, metrics, seen = EngineThread(), Metrics(), []
    metrics.of_model("m").read_busy(thread.busy_seconds)

    def busy():
        seen.append(sample(metrics, "bootleg_engine_busy_seconds_total", model="m"))
        return seen[-1]

    def watch():
        assert thread.busy_since is not None
        while busy() <= seen[0]:
            pass

    assert busy() == 0
    await thread.run(watch)
    assert thread.busy_since is None
    during = seen[-1]
    assert 0 < during <= busy()
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 / 0)
    assert during < busy() == busy()
    thread.close()
