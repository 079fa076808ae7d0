"""Jobs' processes are copies of a template: how they come to be, and how they end."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.settings import Settings
from workers import nursery
from workers.confinement import Limits
from workers.nursery import Nursery
from workers.parent import Child
from workers.protocol import Ready, parse
from workers.template import NAME

SECONDS = 60.0

TEMPLATE = """
import sys, threading, time
from types import SimpleNamespace
from pathlib import Path
before = {before!r}
exec(before)

def run(order, reporter):
    raise RuntimeError("carried out")

sys.modules["workers.run"] = SimpleNamespace(run=run)
from workers import template
template.main()
"""
"""The real template, whose work takes no TensorFlow and fails in its own way."""


@pytest.fixture
def kept(request: pytest.FixtureRequest) -> Iterator[Nursery]:
    before = getattr(request, "param", "")
    program = (sys.executable, "-I", "-c", TEMPLATE.format(before=before))
    made = Nursery(Limits.of(Settings()), program=program)
    yield made
    made.close()


def until_ready(child: Child) -> Ready:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for line in child.read(0.2) or []:
            message = parse(line)
            assert isinstance(message, Ready)
            return message
    raise AssertionError(child.log.read_text())


def rest(child: Child) -> list[bytes]:
    deadline, found = time.monotonic() + SECONDS, []
    while (lines := child.read(0.2)) is not None:
        assert time.monotonic() < deadline
        found += lines
    return found


def test_copies_are_confined_and_gone_after_their_job(kept: Nursery) -> None:
    folders = []
    for _ in range(2):
        child = kept.take()
        assert until_ready(child).confinement.seccomp.active
        process = psutil.Process(child.pid)
        assert process.name() == NAME
        assert process.ppid() != os.getpid()
        assert os.getpgid(child.pid) == child.pid
        assert not any("secateur" in file.path for file in process.open_files() if file.fd > 2)
        child.order("no order\n")
        assert rest(child) == []
        assert child.exit_status() == 1
        assert child.cpu_seconds > 0
        assert "ValidationError" in child.log.read_text()
        folders.append(child.folder)
        child.close()
        assert not psutil.pid_exists(process.pid)
        assert not child.folder.exists()
    assert folders[0] != folders[1]


def test_a_copy_is_killed_with_all_of_its_group(kept: Nursery) -> None:
    child = kept.take()
    until_ready(child)
    assert child.alive()
    child.kill()
    assert child.exit_status() == -signal.SIGKILL
    child.kill()  # Nothing: the number may be another's.
    child.close()
    other = kept.take()
    until_ready(other)
    other.close()


@pytest.mark.parametrize("kept", ["time.sleep(600)"], indirect=True)
def test_a_copy_that_has_yet_to_begin_can_be_killed(kept: Nursery) -> None:
    child = kept.take()
    assert child.read(0.1) == []
    assert child.alive()
    started = time.monotonic()
    child.kill()
    assert child.exit_status() == -signal.SIGKILL
    assert time.monotonic() - started < SECONDS
    child.close()


@pytest.mark.parametrize("kept", ["raise ImportError('no TensorFlow')"], indirect=True)
def test_a_template_that_fails_says_why_in_the_jobs_log(kept: Nursery) -> None:
    child = kept.take()
    assert rest(child) == []
    assert child.exit_status() == 1
    assert "no TensorFlow" in child.log.read_text()
    child.close()


def test_copies_end_with_their_template_and_the_next_gets_another(kept: Nursery) -> None:
    child = kept.take()
    until_ready(child)
    template = psutil.Process(psutil.Process(child.pid).ppid())
    template.kill()
    assert rest(child) == []
    assert child.exit_status() == -signal.SIGKILL
    child.close()
    other = kept.take()
    until_ready(other)
    assert psutil.Process(other.pid).ppid() != template.pid
    other.close()


@pytest.mark.parametrize(
    "kept", ["threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"], indirect=True
)
def test_a_template_of_several_threads_starts_programs_instead(
    kept: Nursery,
) -> None:
    child = kept.take()
    until_ready(child)
    assert "workers.child" in psutil.Process(child.pid).cmdline()
    assert "imports TensorFlow itself" in child.log.read_text()
    child.kill()
    assert child.exit_status() == -signal.SIGKILL
    child.close()


def test_the_real_template_has_one_thread_once_all_is_imported() -> None:
    """Else each job would wait for an import of TensorFlow of its own."""
    made = Nursery(Limits.of(Settings()))
    try:
        child = made.take()
        until_ready(child)
        assert psutil.Process(child.pid).name() == NAME
        child.close()
    finally:
        made.close()


def test_folders_are_gone(kept: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nursery.tempfile, "tempdir", str(tmp_path))
    child = kept.take()
    until_ready(child)
    child.close()
    kept.close()
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_not_killed_by_its_number_once_its_template_is_gone(
    kept: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number may be another's by then."""
    child = kept.take()
    until_ready(child)
    template = psutil.Process(psutil.Process(child.pid).ppid())
    template.kill()
    template.wait()
    monkeypatch.setattr(nursery, "kill_group", lambda leader: pytest.fail(f"{leader} was killed"))
    child.kill()
    assert child.exit_status() == -signal.SIGKILL
    child.close()


def test_a_template_whose_log_was_tidied_away_ends_a_job_all_the_same(
    kept: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nursery.tempfile, "tempdir", str(tmp_path))
    kept.prepare()
    (folder,) = tmp_path.iterdir()
    shutil.rmtree(folder)
    kept._template.kill()  # type: ignore[union-attr]
    child = Child(Limits.of(Settings()), kept._template.copy)  # type: ignore[union-attr]
    assert child.exit_status() == -signal.SIGKILL
    child.close()
