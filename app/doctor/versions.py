"""Python and packages, by their metadata: nothing is imported, TensorFlow least of all."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import cache_from_source, find_spec
from pathlib import Path

from packaging.requirements import Requirement

from app.doctor.check import Check, check
from app.observe import traces

SHOWN = ("keras", "tensorflow")
"""Named even where all is well."""
MOST_BARE = 0.5
COMPILE = (
    "A worker that may not keep it compiles the rest anew at each start, which doubles the time "
    "until its first job begins. Once: python -m compileall -q {}"
)


def versions() -> Iterator[Check]:
    """Python, what the service needs, what workers need, what traces need."""
    yield check("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    yield _packages("packages", "", "Install the service anew, by its lock file.", "fail")
    yield _packages(
        "worker packages",
        "worker",
        "This machine can run the API and the reaper; for workers: pip install 'secateur[worker]'.",
        "warn",
    )
    yield from _bytecode()
    if traces.wanted():
        there = traces.available()
        yield check("traces", "ok" if there else "warn", there or "not traced", traces.MISSING)


def _bytecode() -> Iterator[Check]:
    """Whether workers must compile what they import, and perhaps may not write it down."""
    folders = [
        Path(spec.origin).parent for name in SHOWN if (spec := find_spec(name)) and spec.origin
    ]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    if not files:
        return
    bare = sum(not Path(cache_from_source(str(file))).exists() for file in files)
    said = f"{len(files) - bare:,} of {len(files):,} files of {' and '.join(SHOWN)} are compiled"
    few = bare > MOST_BARE * len(files)
    yield check("bytecode", "warn" if few else "ok", said, COMPILE.format(folders[0].parent))


def _packages(name: str, extra: str, advice: str, state: str) -> Check:
    wrong, shown = [], [f"secateur {version('secateur')}"] if not extra else []
    for requirement in _required(extra):
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            wrong.append(f"{requirement.name} is {there}, expected {requirement.specifier}")
        elif requirement.name in SHOWN:
            shown.append(f"{requirement.name} {there}")
    if wrong:
        return check(name, "warn" if state == "warn" else "fail", "; ".join(wrong), advice)
    return check(name, "ok", ", ".join(shown) or "all there")


def _required(extra: str) -> Iterator[Requirement]:
    """Requirements of an extra; of the bare service for ''."""
    for text in requires("secateur") or ():
        requirement = Requirement(text)
        marker = requirement.marker
        plain = marker is None or marker.evaluate({"extra": ""})
        if plain != bool(extra) and (marker is None or marker.evaluate({"extra": extra})):
            yield requirement
