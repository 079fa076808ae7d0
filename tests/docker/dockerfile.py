"""Reads Dockerfiles and .dockerignore, as far as ours go."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.docker.compose import ROOT

API = ROOT / "docker" / "api.Dockerfile"
WORKER = ROOT / "docker" / "worker.Dockerfile"


@dataclass(frozen=True)
class Instruction:
    """One instruction with its continuation lines joined."""

    name: str
    text: str

    @property
    def flags(self) -> dict[str, str]:
        """`--from=build` and the like."""
        return dict(re.findall(r"(?:^|\s)--([a-z-]+)=(\S+)", self.text.split("[")[0]))

    @property
    def words(self) -> list[str]:
        """What is left without flags."""
        return [word for word in shlex.split(self.text) if not word.startswith("--")]

    @property
    def exec_form(self) -> list[str]:
        """The JSON list of CMD or HEALTHCHECK. Raises `ValueError` for the shell form."""
        start = self.text.find("[")
        if start < 0:
            raise ValueError(f"{self.name} {self.text} is in shell form")
        command = json.loads(self.text[start:])
        assert all(isinstance(word, str) for word in command)
        return list(command)


def parse(path: Path) -> list[Instruction]:
    """The instructions of all stages, in order."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        Instruction(name.upper(), text.strip())
        for name, _, text in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def final_stage(path: Path) -> list[Instruction]:
    """The instructions that make the image itself."""
    instructions = parse(path)
    last = max(i for i, instruction in enumerate(instructions) if instruction.name == "FROM")
    return instructions[last:]


def environment(path: Path) -> dict[str, str]:
    """What the image sets with ENV."""
    found: dict[str, str] = {}
    for instruction in final_stage(path):
        if instruction.name == "ENV":
            found |= dict(word.split("=", 1) for word in instruction.words)
    return found


def one(path: Path, name: str) -> Instruction:
    """The final stage's only instruction of that name."""
    (found,) = [each for each in final_stage(path) if each.name == name]
    return found


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the build: the last pattern that matches wins."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        if re.match(_expression(pattern.removeprefix("!").strip("/")), path):
            out = not pattern.startswith("!")
    return out


def _expression(pattern: str) -> str:
    # A pattern that matches a folder matches what is in it.
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]*\])", pattern)
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return (
        "".join(
            words.get(part, part if part.startswith("[") else re.escape(part)) for part in parts
        )
        + "(?:/.*)?$"
    )
