"""docker-compose.yml by what it says: valid for old and new Compose, everything confined, every setting reachable."""

from __future__ import annotations

import importlib.resources
import ipaddress
import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from bootleg_service.cli import serve

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
PROFILES = ("gpu", "scale", "monitoring", "train")
OURS = ("service", "replica", "service-gpu")

# The image's own, which a container has no reason to change.
OF_THE_IMAGE = {"BOOTLEG_HOST", "BOOTLEG_PORT", "BOOTLEG_ENGINE_CACHE"}


def settings() -> dict[str, object]:
    """Variable and default of every option of ``bootleg serve``."""
    found: dict[str, object] = {}
    for option in serve.params:
        if option.envvar:
            found[option.envvar if isinstance(option.envvar, str) else option.envvar[0]] = option.default
    return found


def seconds(text: str) -> int:
    return int(re.fullmatch(r"(\d+)s", text)[1])


def test_it_fits_the_schema_of_compose_files():
    schema = importlib.resources.files("check_jsonschema.builtin_schemas.vendor") / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text(encoding="utf-8")))


def test_docker_compose_takes_it_with_every_profile():
    if not shutil.which("docker-compose"):
        pytest.skip("needs docker-compose")
    flags = [flag for profile in PROFILES for flag in ("--profile", profile)]
    done = subprocess.run(
        ["docker-compose", *flags, "config", "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_service_but_two_runs_without_a_profile():
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == {"service", "redis"}
    assert {profile for service in SERVICES.values() for profile in service.get("profiles", ())} == set(PROFILES)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode"} & {k for k in service if service[k] != "none"}
    assert "docker.sock" not in json.dumps(service)
    assert "mem_limit" in service or name == "train"  # which takes what the machine has


def test_what_is_published_is_published_to_this_machine_unless_somebody_says_otherwise():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"service", "service-gpu", "nginx", "grafana"}
    for ports in published.values():
        assert all(re.match(r"(\$\{\w+:-)?127\.0\.0\.1", port) for port in ports), ports


def test_redis_and_prometheus_are_on_the_network_without_a_way_out():
    assert COMPOSE["networks"]["inner"] == {"internal": True}
    for name in ("redis", "prometheus"):
        assert SERVICES[name]["networks"] == ["inner"]


def test_replicas_believe_nginx_about_who_asks_and_nobody_else():
    assert {name for name in SERVICES if "relay" in SERVICES[name].get("networks", ())} == {"replica", "nginx"}
    assert SERVICES["replica"]["networks"] == ["inner", "relay"]
    relay = COMPOSE["networks"]["relay"]
    assert relay["internal"] is True
    (pool,) = relay["ipam"]["config"]
    address, subnet, given = (
        re.sub(r"\$\{RELAY_NETWORK:-([0-9.]+)\}", r"\1", text)
        for text in (SERVICES["nginx"]["networks"]["relay"]["ipv4_address"], pool["subnet"], pool["ip_range"])
    )
    assert ipaddress.ip_address(address) in ipaddress.ip_network(subnet)
    assert ipaddress.ip_address(address) not in ipaddress.ip_network(given)
    believed = [SERVICES[name]["environment"]["BOOTLEG_TRUSTED_PROXY"] for name in ("replica", "service")]
    assert believed == [SERVICES["nginx"]["networks"]["relay"]["ipv4_address"], None]
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in (ROOT / "docker/nginx.conf").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", OURS)
def test_a_container_is_given_longer_to_stop_than_the_service_takes(name):
    taken = sum(value for key, value in settings().items() if "DRAIN" in key and isinstance(value, int | float))
    assert taken >= 20
    assert seconds(SERVICES[name]["stop_grace_period"]) > taken
    assert seconds(SERVICES["nginx"]["stop_grace_period"]) >= seconds(SERVICES["replica"]["stop_grace_period"])


@pytest.mark.parametrize("name", OURS)
def test_every_setting_of_the_service_reaches_the_container(name):
    wanted = set(settings()) - OF_THE_IMAGE
    given = set(SERVICES[name]["environment"])
    assert wanted <= given, f"add to x-service's environment in docker-compose.yml: {sorted(wanted - given)}"
    assert given <= wanted, f"no setting of the service: {sorted(given - wanted)}"


def test_every_variable_is_described_in_the_example():
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    used = set(re.findall(r"\$\{(\w+)", text)) | (set(settings()) - OF_THE_IMAGE)
    described = set(re.findall(r"^#?(\w+)=", EXAMPLE, re.MULTILINE))
    assert used == described, f"not in .env.example: {used - described}; only there: {described - used}"


def test_defaults_in_the_example_are_those_of_the_compose_file():
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    shown = dict(re.findall(r"^#(\w+)=([^ \n]*)", EXAMPLE, re.MULTILINE))
    assert {name: shown[name] for name in defaults} == defaults


def test_the_example_sets_nothing():
    assert not re.search(r"^\w", EXAMPLE, re.MULTILINE)


def test_what_it_mounts_of_the_repository_is_there():
    sources = [v.partition(":")[0] for service in SERVICES.values() for v in service.get("volumes", ())]
    defaults = [re.sub(r"\$\{\w+:-", "", source) for source in sources]  # the pattern of a default ends at its colon
    ours = [source for source in defaults if source.startswith("./docker/")]
    assert len(ours) >= 4
    assert not [source for source in ours if not (ROOT / source).exists()]


def test_grafana_is_shown_prometheus_and_the_dashboard():
    grafana = SERVICES["grafana"]
    mounts = {target: source for source, target, _ in (volume.split(":") for volume in grafana["volumes"])}
    provisioning = ROOT / mounts["/etc/grafana/provisioning"]
    [source] = yaml.safe_load((provisioning / "datasources/bootleg.yml").read_text(encoding="utf-8"))["datasources"]
    assert re.fullmatch(r"http://(\w+):9090", source["url"])[1] in SERVICES
    [folder] = yaml.safe_load((provisioning / "dashboards/bootleg.yml").read_text(encoding="utf-8"))["providers"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert folder["options"]["path"] in mounts
    assert home == f"{folder['options']['path']}/dashboard.json"
