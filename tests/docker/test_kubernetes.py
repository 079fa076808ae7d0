"""The Kubernetes manifests fit its schemas, and agree with the code, the images and each other."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.api.figures import QUEUE_GAUGES
from app.domain.queues import QUEUES
from app.settings import Settings
from tests.docker import compose, dockerfile
from tests.docker.compose import ROOT

FOLDER = ROOT / "docker" / "kubernetes"
IMAGES = {"secateur-api:local": dockerfile.API, "secateur-worker:local": dockerfile.WORKER}
SETTINGS = {f"SECATEUR_{name}".upper() for name in Settings.model_fields}


def _documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def _resources() -> list[dict[str, Any]]:
    """What the base applies."""
    (base,) = _documents(FOLDER / "kustomization.yaml")
    return [each for name in base["resources"] for each in _documents(FOLDER / name)]


RESOURCES = _resources()
DEPLOYMENTS = {each["metadata"]["name"]: each for each in RESOURCES if each["kind"] == "Deployment"}
each_deployment = pytest.mark.parametrize("name", DEPLOYMENTS)
each_resource = pytest.mark.parametrize(
    "resource", RESOURCES, ids=lambda one: f"{one['kind']} {one['metadata']['name']}"
)


def _pod(name: str) -> dict[str, Any]:
    return dict(DEPLOYMENTS[name]["spec"]["template"]["spec"])


def _container(name: str) -> dict[str, Any]:
    (container,) = _pod(name)["containers"]
    return dict(container)


def _of(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in RESOURCES if each["kind"] == kind}


def _misfit(resource: dict[str, Any]) -> Exception | None:
    """What Kubernetes' newest known schemas have against a resource, typing errors included."""
    try:
        version = kubernetes_validate.latest_version()
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return error
    return None


@each_resource
def test_fits_the_schema_of_kubernetes(resource: dict[str, Any]) -> None:
    assert _misfit(resource) is None


def test_the_schemas_refuse_what_is_wrong() -> None:
    wrong = yaml.safe_load((FOLDER / "worker.yaml").read_text().split("---")[0])
    wrong["spec"]["template"]["spec"]["containers"][0]["comand"] = ["x"]
    assert "comand" in str(_misfit(wrong))


def test_every_file_is_used_but_the_one_that_needs_more() -> None:
    (base,) = _documents(FOLDER / "kustomization.yaml")
    files = {path.name for path in FOLDER.glob("*.yaml")}
    assert files - set(base["resources"]) == {"kustomization.yaml", "keda.yaml"}


def test_the_parts_are_those_of_the_compose_file() -> None:
    assert set(DEPLOYMENTS) == set(compose.OURS)


@each_deployment
def test_commands_are_the_compose_file_s(name: str) -> None:
    container = _container(name)
    service = compose.load({"POSTGRES_PASSWORD": "x"})["services"][name]
    assert container["image"] == service["image"]
    there = service.get("command") or dockerfile.one(IMAGES[container["image"]], "CMD").exec_form
    assert [*container["command"], *container.get("args", [])] == there
    if "--queue" in there:
        assert there[-1] in QUEUES


@each_deployment
def test_pods_have_no_privileges(name: str) -> None:
    pod, container = _pod(name), _container(name)
    assert pod["automountServiceAccountToken"] is False
    said = pod["securityContext"]
    assert said["runAsNonRoot"] is True
    assert said["seccompProfile"] == {"type": "RuntimeDefault"}
    user = dockerfile.one(IMAGES[container["image"]], "USER").text
    assert f"{said['runAsUser']}:{said['runAsGroup']}" == user
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all("hostPath" not in volume for volume in pod["volumes"])


@each_deployment
def test_what_is_written_lies_on_a_volume(name: str) -> None:
    container = _container(name)
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    data = dockerfile.environment(IMAGES[container["image"]])["SECATEUR_DATA_DIR"]
    assert mounted == {"data": data, "tmp": "/tmp"}
    volumes = {each["name"]: each for each in _pod(name)["volumes"]}
    claim = volumes["data"]["persistentVolumeClaim"]["claimName"]
    # Shared by pods on several nodes.
    assert _of("PersistentVolumeClaim")[claim]["spec"]["accessModes"] == ["ReadWriteMany"]


@each_deployment
def test_health_is_asked_and_resources_are_named(name: str) -> None:
    container = _container(name)
    assert {"startupProbe", "livenessProbe"} <= set(container)
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        if "exec" in (probe := container.get(kind, {})):
            assert probe["exec"]["command"][:2] == ["python", "/opt/secateur/healthcheck.py"]
            assert probe["exec"]["command"][2] in ("reaper", "worker")
        elif probe:
            assert probe["httpGet"] == {"path": "/healthz", "port": "http"}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    if "worker" in name:
        assert container["resources"]["limits"]["memory"] == "9Gi"
        assert Settings.model_fields["job_memory_bytes"].default < 9 * 1024**3
    service = compose.load({"POSTGRES_PASSWORD": "x"})["services"][name]
    grace = int(service["stop_grace_period"].removesuffix("s"))
    assert _pod(name)["terminationGracePeriodSeconds"] >= grace


@each_deployment
def test_a_node_s_upgrade_takes_one_at_a_time(name: str) -> None:
    budget = _of("PodDisruptionBudget")[name]["spec"]
    assert budget["maxUnavailable"] == 1
    labels = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"] == labels
    assert DEPLOYMENTS[name]["spec"]["selector"]["matchLabels"] == labels


def test_every_variable_is_a_setting() -> None:
    text = "".join(path.read_text() for path in FOLDER.iterdir())
    assert set(re.findall(r"SECATEUR_[A-Z_]+", text)) <= SETTINGS
    for name, value in _of("ConfigMap")["secateur"]["data"].items():
        assert name in SETTINGS
        Settings.model_validate({name.removeprefix("SECATEUR_").lower(): value})


def test_addresses_are_in_a_secret_that_is_only_referred_to() -> None:
    assert _of("Secret") == {}
    for name in DEPLOYMENTS:
        secret = {
            each["name"]: each["valueFrom"]["secretKeyRef"] for each in _container(name)["env"]
        }
        assert secret == {
            "SECATEUR_BROKER_URL": {"name": "secateur", "key": "broker-url"},
            "SECATEUR_DATABASE_URL": {"name": "secateur", "key": "database-url"},
        }


def test_only_the_api_is_reached_and_workers_reach_two_services() -> None:
    policies = _of("NetworkPolicy")
    everybody, api = policies["secateur"]["spec"], policies["api"]["spec"]
    assert everybody["podSelector"] == {}
    assert set(everybody["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in everybody
    open_to_all = [rule for rule in everybody["egress"] if "to" not in rule]
    assert [[port["port"] for port in rule["ports"]] for rule in open_to_all] == [
        [6379, 26379, 5432]
    ]
    labels = DEPLOYMENTS["api"]["spec"]["template"]["metadata"]["labels"]
    assert api["podSelector"]["matchLabels"] == labels
    assert api["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]
    assert [port["name"] for port in _container("api")["ports"]] == ["http"]


def test_the_autoscaler_by_queue_asks_for_metrics_that_there_are() -> None:
    (scaler,) = _documents(FOLDER / "keda.yaml")
    assert scaler["spec"]["scaleTargetRef"]["name"] in DEPLOYMENTS
    query = scaler["spec"]["triggers"][0]["metadata"]["query"]
    asked = set(re.findall(r"secateur_\w+", query))
    assert asked == {"secateur_queue_waiting", "secateur_queue_running"}
    assert asked < set(QUEUE_GAUGES)
    assert set(re.findall(r'queue="(\w+)"', query)) == {"jobs"}
