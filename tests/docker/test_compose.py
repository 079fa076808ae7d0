"""docker-compose.yml says what it may say, and agrees with the images and the settings."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from app.adapters.queue import QUEUES
from app.settings import Settings
from tests.docker import compose, dockerfile
from tests.docker.compose import COMPOSE, OURS, ROOT

GIB = 1024**3
SETTINGS = {f"SECATEUR_{name}".upper() for name in Settings.model_fields}


@pytest.fixture
def document() -> dict[str, Any]:
    return compose.load({"POSTGRES_PASSWORD": "secret"})


@pytest.fixture
def services(document: dict[str, Any]) -> dict[str, Any]:
    return dict(document["services"])


def _image(service: dict[str, Any]) -> Path:
    return ROOT / str(service["build"]["dockerfile"])


def test_fits_the_schema(document: dict[str, Any]) -> None:
    schema = json.loads((Path(__file__).parent / "compose.schema.json").read_text())
    validator = jsonschema.Draft202012Validator
    validator.check_schema(schema)
    said = [
        f"{error.json_path}: {error.message}" for error in validator(schema).iter_errors(document)
    ]
    assert said == []


def test_has_the_services(services: dict[str, Any]) -> None:
    assert set(services) == {*OURS, "redis", "postgres"}


def test_is_refused_without_a_password() -> None:
    with pytest.raises(compose.Missing, match="Set POSTGRES_PASSWORD"):
        compose.load({})


def test_holds_no_secret() -> None:
    raw = yaml.safe_load(COMPOSE.read_text())
    values = {
        value
        for service in raw["services"].values()
        for name, value in service.get("environment", {}).items()
        if "PASSWORD" in name
    }
    assert values
    assert all(value.startswith("${POSTGRES_PASSWORD:?") for value in values)
    assert not re.search(r"://[^/\s@]*:[^/\s@]*@", COMPOSE.read_text())


def test_publishes_only_the_api_and_only_on_loopback(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"api": ["127.0.0.1:8000:8000"]}


def test_only_the_api_reaches_the_world(document: dict[str, Any]) -> None:
    assert document["networks"]["inside"] == {"internal": True}
    inside = {name for name, s in document["services"].items() if s["networks"] == ["inside"]}
    assert inside == set(document["services"]) - {"api"}


def test_declares_what_it_uses(document: dict[str, Any]) -> None:
    used = {"networks": set(), "volumes": set()}
    for service in document["services"].values():
        used["networks"] |= set(service["networks"])
        used["volumes"] |= {
            volume.split(":")[0] for volume in service.get("volumes", []) if ":" in volume
        }
    assert {kind: set(document[kind]) for kind in used} == used


def test_waits_only_for_what_has_a_health_check(services: dict[str, Any]) -> None:
    for name in OURS:
        assert set(services[name]["depends_on"]) == {"redis", "postgres"}
    for name in ("redis", "postgres", "reaper"):
        assert "healthcheck" in services[name]


@pytest.mark.parametrize("name", OURS)
def test_our_processes_are_confined(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    # Read only, but for the data and /tmp.
    writable = {each.split(":")[-1] for each in service["volumes"]}
    writable |= {each.split(":")[0] for each in service.get("tmpfs", [])}
    assert writable == {"/var/lib/secateur", "/tmp"}


def test_every_variable_is_a_setting(services: dict[str, Any]) -> None:
    used = {name for service in services.values() for name in service.get("environment", {})}
    for path in (dockerfile.API, dockerfile.WORKER):
        used |= set(dockerfile.environment(path))
    ours = {name for name in used if name.startswith("SECATEUR_")}
    assert {"SECATEUR_BROKER_URL", "SECATEUR_DATABASE_URL", "SECATEUR_DATA_DIR"} <= ours
    assert ours <= SETTINGS
    # Likewise where the files only talk about them.
    files = [COMPOSE, *(path for path in (ROOT / "docker").rglob("*") if path.is_file())]
    mentioned = set(re.findall(r"SECATEUR_[A-Z_]+", "".join(path.read_text() for path in files)))
    assert mentioned <= SETTINGS


@pytest.mark.parametrize("name", OURS)
def test_the_data_folder_is_the_volume(services: dict[str, Any], name: str) -> None:
    service = services[name]
    folder = service["environment"]["SECATEUR_DATA_DIR"]
    image = _image(service)
    assert f"data:{folder}" in service["volumes"]
    assert dockerfile.environment(image)["SECATEUR_DATA_DIR"] == folder
    assert dockerfile.one(image, "VOLUME").exec_form == [folder]


def test_every_queue_has_a_worker_of_its_own(services: dict[str, Any]) -> None:
    commands = [services[name]["command"] for name in ("worker", "worker-quick")]
    assert sorted(command[-1] for command in commands) == sorted(set(QUEUES.values()))
    assert all(command[:-1] == ["secateur", "worker", "--queue"] for command in commands)


def test_a_job_may_use_the_memory_it_was_promised(services: dict[str, Any]) -> None:
    for name in ("worker", "worker-quick"):
        limit = int(services[name]["mem_limit"].removesuffix("g")) * GIB
        assert limit > Settings.model_fields["job_memory_bytes"].default


def test_the_example_of_an_environment_names_every_variable_and_its_default() -> None:
    text = (ROOT / "docker" / ".env.example").read_text()
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
    used = dict(re.findall(r"\$\{(\w+):(?:-|\?.*?)([^}]*)\}", COMPOSE.read_text()))
    assert example == {**used, "POSTGRES_PASSWORD": ""}
