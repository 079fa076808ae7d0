"""What the images install."""

import re
import tomllib

import pytest

from tests.docker.compose import ROOT

_PIN = re.compile(
    r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^\s;]+)(?: ; (.*?))? \\$", re.MULTILINE
)

Pins = dict[str, set[tuple[str, str]]]


def _text(name: str) -> str:
    return (ROOT / name).read_text()


def pins(name: str) -> Pins:
    """Package → versions, each with the marker under which it holds."""
    found: Pins = {}
    for package, version, marker in _PIN.findall(_text(name)):
        found.setdefault(package, set()).add((version, marker))
    return found


def hashes(name: str) -> dict[str, set[str]]:
    """Package → hashes of its files."""
    found: dict[str, set[str]] = {}
    package = ""
    for line in _text(name).splitlines():
        if pin := _PIN.match(line):
            package = pin[1]
        elif "--hash=" in line:
            found.setdefault(package, set()).add(line.split("--hash=")[1].split()[0])
    return found


@pytest.mark.parametrize(
    "name", ["requirements/api.txt", "requirements/worker.txt", "docker/build.txt"]
)
def test_everything_is_pinned_withhashes(name: str) -> None:
    names = re.findall(r"^([a-z0-9][a-z0-9._-]*)", _text(name), re.MULTILINE)
    assert set(names) == set(pins(name)) == set(hashes(name))


def test_the_api_has_no_deep_learning() -> None:
    heavy = {"tensorflow", "keras", "tf-keras", "ai-edge-litert", "torch", "jax"}
    heavy |= {"onnx", "onnxruntime", "tf2onnx"}
    assert not heavy & set(pins("requirements/api.txt"))
    assert {"tensorflow", "keras"} <= set(pins("requirements/worker.txt"))


def test_workers_have_the_apis_versions() -> None:
    api, worker = pins("requirements/api.txt"), pins("requirements/worker.txt")
    assert {name: worker.get(name) for name in api} == api


def test_tests_have_the_workers_versions() -> None:
    worker, dev = pins("requirements/worker.txt"), pins("requirements/dev.txt")

    def versions(pins: Pins) -> dict[str, set[str]]:
        # Markers may differ: they are the union over all that asks for a package.
        return {name: {version for version, _ in pins[name]} for name in worker if name in pins}

    assert versions(dev) == versions(worker)


def test_the_build_tools_are_those_of_the_development_environment() -> None:
    build = hashes("docker/build.txt")
    dev = hashes("requirements/dev.txt")
    assert {name: dev.get(name) for name in build} == build
    requires = tomllib.loads(_text("pyproject.toml"))["build-system"]["requires"]
    assert [re.split(r"[<>=~!]", each)[0] for each in requires] == ["hatchling"]
    assert "hatchling" in build
