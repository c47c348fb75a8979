"""The manifests of docker/k8s: by Kubernetes' own schemas, old and new, and by what they must agree on."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.deploy.test_compose_file import COMPOSE, seconds, settings

FOLDER = Path(__file__).parents[2] / "docker" / "k8s"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
VERSIONS = ("1.27", kubernetes_validate.latest_version())
"""The oldest we say we run on, and the newest that has schemas here."""
# Of Kustomize, KEDA and Helm: what Kubernetes has no schema of.
ELSEWHERE = {"kustomization.yaml", "scaledobject.yaml", "prometheus-adapter.yaml"}


def documents() -> dict[tuple[str, str], dict]:
    """Every object of Kubernetes' own kinds, by kind and name."""
    found = {}
    for path in sorted(FOLDER.rglob("*.yaml")):
        if path.name not in ELSEWHERE:
            for one in yaml.safe_load_all(path.read_text(encoding="utf-8")):
                found[one["kind"], one["metadata"]["name"]] = one
    return found


OBJECTS = documents()
PODS = {name: one["spec"]["template"]["spec"] for (kind, name), one in OBJECTS.items() if kind == "Deployment"}
DEPLOYMENT = OBJECTS["Deployment", "bootleg"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("key", OBJECTS, ids="/".join)
def test_an_object_fits_its_schema_and_has_no_field_besides(key, version):
    kubernetes_validate.validate(OBJECTS[key], version, strict=True)


def test_a_misspelt_field_would_be_found():
    wrong = {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], "replicaz": 3}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replicaz"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_kustomize_is_given_every_file_there_is():
    there = {path.name for path in FOLDER.glob("*.yaml")} - ELSEWHERE
    assert set(KUSTOMIZATION["resources"]) == there


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_what_the_strictest_profile_allows(name):
    pod = PODS[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_settings_are_settings_of_the_service():
    [generator] = KUSTOMIZATION["configMapGenerator"]
    given = dict(line.split("=", 1) for line in generator["literals"])
    assert set(given) <= set(settings())
    assert PODS["bootleg"]["containers"][0]["envFrom"] == [{"configMapRef": {"name": generator["name"]}}]
    host, port = re.fullmatch(r"redis://(\w+):(\d+)/0", given["BOOTLEG_REDIS_URL"]).groups()
    assert OBJECTS["Service", host]["spec"]["ports"][0]["port"] == int(port)


def test_a_pod_is_given_longer_to_stop_than_it_takes():
    pod = PODS["bootleg"]
    [container] = pod["containers"]
    waits = int(re.search(r"sleep\((\d+)\)", container["lifecycle"]["preStop"]["exec"]["command"][-1])[1])
    drain = sum(value for key, value in settings().items() if "DRAIN" in key and isinstance(value, int | float))
    readiness = container["readinessProbe"]
    assert waits >= readiness["periodSeconds"]
    assert pod["terminationGracePeriodSeconds"] > waits + drain
    assert pod["terminationGracePeriodSeconds"] == seconds(COMPOSE["services"]["service"]["stop_grace_period"])


def test_probes_ask_what_the_service_answers():
    [container] = PODS["bootleg"]["containers"]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {
        "startupProbe": "/health/ready",
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
    }
    assert {"name": "http", "containerPort": 8000} in container["ports"]


@pytest.mark.parametrize(
    "selector",
    [
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        OBJECTS["Service", "bootleg"]["spec"]["selector"],
        OBJECTS["PodDisruptionBudget", "bootleg"]["spec"]["selector"]["matchLabels"],
        OBJECTS["NetworkPolicy", "service"]["spec"]["podSelector"]["matchLabels"],
    ],
)
def test_selectors_find_the_pods(selector):
    assert selector.items() <= DEPLOYMENT["spec"]["template"]["metadata"]["labels"].items()


def test_both_autoscalers_look_at_the_same_queue_of_the_same_deployment():
    scaler = OBJECTS["HorizontalPodAutoscaler", "bootleg"]["spec"]
    keda = yaml.safe_load((FOLDER / "keda/scaledobject.yaml").read_text(encoding="utf-8"))["spec"]
    adapter = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    from bootleg_service.metrics import Metrics

    metric = scaler["metrics"][0]["pods"]
    assert metric["metric"]["name"].encode() in Metrics().render()
    assert metric["metric"]["name"] in adapter["rules"]["custom"][0]["seriesQuery"]
    assert metric["metric"]["name"] in keda["triggers"][0]["metadata"]["query"]
    assert metric["target"]["averageValue"] == keda["triggers"][0]["metadata"]["threshold"]
    assert scaler["scaleTargetRef"]["name"] == keda["scaleTargetRef"]["name"] == DEPLOYMENT["metadata"]["name"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (keda["minReplicaCount"], keda["maxReplicaCount"])


def test_the_redis_of_both_is_one():
    composed = COMPOSE["services"]["redis"]
    assert PODS["redis"]["containers"][0]["image"] in composed["image"]
    words = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", composed["command"]).replace('""', "").split()
    assert [word for word in PODS["redis"]["containers"][0]["args"] if word] == words
