from bootleg_service.metrics import Metrics


def test_two_instances_share_nothing():
    one, other = Metrics(), Metrics()
    one.batch_failures.labels("ordinary").inc()
    assert b'bootleg_batch_failures_total{fault="ordinary"} 1.0' in one.render()
    assert b"bootleg_batch_failures_total{" not in other.render()


def test_every_metric_has_the_prefix_of_the_project_and_a_description():
    for metric in Metrics().registry.collect():
        assert metric.name.startswith("bootleg_")
        assert metric.documentation
