"""Rules that both Dockerfiles keep, and what enters a build."""

import re
from pathlib import Path

import pytest

from tests.docker.compose import ROOT
from tests.docker.dockerfile import API, WORKER, final_stage, ignored, one, parse

BOTH = pytest.mark.parametrize("path", [API, WORKER], ids=lambda path: path.name)
SECRET = re.compile(r"password|secret|token|credential", re.IGNORECASE)


def _sources(path: Path) -> list[str]:
    """What is copied from the build context."""
    return [
        source
        for instruction in parse(path)
        if instruction.name == "COPY" and "from" not in instruction.flags
        for source in instruction.words[:-1]
    ]


@BOTH
def test_bases_are_pinned(path: Path) -> None:
    for instruction in parse(path):
        if instruction.name == "FROM":
            assert re.match(r"python:3\.\d+-slim-[a-z]+( AS [a-z]+)?$", instruction.text)


@BOTH
def test_stages_that_are_copied_from_exist(path: Path) -> None:
    stages: set[str] = set()
    for instruction in parse(path):
        if instruction.name == "FROM" and " AS " in instruction.text:
            stages.add(instruction.text.split(" AS ")[1])
        if instruction.name == "COPY" and "from" in instruction.flags:
            assert instruction.flags["from"] in stages


@BOTH
def test_runs_as_a_numbered_user_that_is_not_root(path: Path) -> None:
    assert re.match(r"[1-9]\d*:[1-9]\d*$", one(path, "USER").text)


def test_both_images_share_the_volume_as_the_same_user() -> None:
    assert one(API, "USER") == one(WORKER, "USER")
    assert one(API, "VOLUME") == one(WORKER, "VOLUME")


@BOTH
def test_only_root_writes_where_python_looks_for_modules(path: Path) -> None:
    names = [instruction.name for instruction in final_stage(path)]
    assert names.index("WORKDIR") < names.index("USER")
    assert one(path, "WORKDIR").text not in one(path, "VOLUME").exec_form


@BOTH
def test_commands_are_in_exec_form(path: Path) -> None:
    assert one(path, "CMD").exec_form[0] == "secateur"
    assert one(path, "HEALTHCHECK").exec_form[0] == "python"
    assert not [each for each in parse(path) if each.name in ("ENTRYPOINT", "SHELL")]


@BOTH
def test_folders_are_absolute(path: Path) -> None:
    folders = [each.text for each in parse(path) if each.name == "WORKDIR"]
    assert folders
    assert all(folder.startswith("/") for folder in folders)


@BOTH
def test_does_what_linters_ask(path: Path) -> None:
    instructions = parse(path)
    assert "ADD" not in {each.name for each in instructions}
    for each in instructions:
        assert "sudo" not in each.text
        if each.name in ("ENV", "ARG"):
            assert not SECRET.search(each.text)
        if "apt-get install" in each.text:
            assert "--no-install-recommends" in each.text
            assert "rm -rf /var/lib/apt/lists" in each.text


@BOTH
def test_installs_nothing_that_is_not_locked(path: Path) -> None:
    installs = [
        command
        for each in parse(path)
        if each.name == "RUN"
        for command in each.text.split("&&")
        if "pip install" in command
    ]
    assert len(installs) == 3
    for command in installs:
        assert "--require-hashes" in command or "--no-deps --no-index" in command


@BOTH
def test_what_is_copied_exists_and_is_let_in(path: Path) -> None:
    sources = _sources(path)
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source), source
    for folder in (source for source in sources if (ROOT / source).is_dir()):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and not {"__pycache__", "node_modules"} & set(file.parts):
                assert not ignored(str(file.relative_to(ROOT))), file


def test_only_the_worker_gets_the_workers() -> None:
    assert {"app"} == {source for source in _sources(API) if (ROOT / source).is_dir()}
    assert {"app", "workers"} == {source for source in _sources(WORKER) if (ROOT / source).is_dir()}


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".env",
        "docker/.env",
        ".venv/bin/python",
        ".secateur/secateur.sqlite3",
        "tests/servers.py",
        "requirements/dev.txt",
        "app/__pycache__/cli.cpython-312.pyc",
        "workers/engine/masks.pyc",
        "app/web/node_modules/react/index.js",
    ],
)
def test_nothing_else_is_let_in(path: str) -> None:
    assert ignored(path)
