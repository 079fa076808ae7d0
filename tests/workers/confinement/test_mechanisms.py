"""Mechanisms on kernels that lack them or know less, in throw-away processes."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from app.confinement import landlock
from app.settings import Settings
from workers.confinement import Limits
from workers.confinement.environment import ALLOWED, environment
from workers.confinement.sequence import Confines
from workers.probe import PROGRAM, probe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    return tmp_path


def confined(folder: Path, before: str, after: str) -> Any:
    """What a confined process prints as JSON; `before` changes what the kernel can do."""
    confines = Confines(
        limits=Limits.of(Settings()), folder=str(folder), parent=os.getpid(), user=None
    )
    code = f"""
        import ctypes, errno, json, os, socket, sys
        from pathlib import Path
        from app.confinement import kernel, landlock, network, seccomp, user
        from workers.confinement import sequence
        {before}
        confines = sequence.Confines.model_validate_json(sys.argv[1])
        folder = Path(confines.folder)
        found = sequence.enter(confines)
        print(json.dumps({after}))
    """
    command = [sys.executable, "-I", "-c", textwrap.dedent(code), confines.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(folder))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("abi", "bits"), [(1, 13), (2, 14), (3, 15), (4, 15), (5, 16), (6, 16), (7, 16), (9, 16)]
)
def test_only_rights_that_the_kernel_knows_are_handled(abi: int, bits: int) -> None:
    assert landlock._handled(abi) == (1 << bits) - 1


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux'")
@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5, 6])
def test_older_landlock_still_keeps_files(folder: Path, abi: int) -> None:
    told, tried = confined(
        folder,
        f"from workers.confinement import trial; landlock.version = lambda: {abi}",
        "[one.landlock.model_dump() for one in (found, trial.tried(found, folder))]",
    )
    assert told == tried
    assert told["active"]
    assert ("signals" in told["detail"]) is (abi < 6)


@pytest.mark.parametrize(
    ("before", "mechanism", "words"),
    [
        (
            "def none(): raise OSError(errno.ENOSYS, 'no such call')\n"
            "        landlock.version = none",
            "landlock",
            "not in this kernel, or is not allowed: no such call",
        ),
        (
            "def off(): raise OSError(errno.EOPNOTSUPP, 'off')\n        landlock.version = off",
            "landlock",
            "switched off at boot",
        ),
        (
            "def no(*a): raise OSError(errno.EPERM, 'not permitted')\n        network.call = no",
            "network",
            "not permitted",
        ),
    ],
)
def test_what_is_missing_says_so(folder: Path, before: str, mechanism: str, words: str) -> None:
    told = confined(folder, before, f"found.{mechanism}.model_dump()")
    assert told["active"] is False
    assert words in told["detail"]


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user has nothing to drop")
def test_root_without_a_uid_to_give_is_not_confined(folder: Path) -> None:
    told = confined(folder, "pass", "found.user.model_dump()")
    assert told == {
        "active": False,
        "detail": "the worker is root and could not hand its folders to another uid",
    }


def test_a_process_with_threads_is_refused(folder: Path) -> None:
    with pytest.raises(AssertionError, match="before it starts threads"):
        confined(
            folder,
            "import threading, time; "
            "threading.Thread(target=time.sleep, args=(5,), daemon=True).start()",
            "None",
        )


def test_the_environment_is_on_the_list(tmp_path: Path) -> None:
    assert set(environment(tmp_path)) <= ALLOWED


# --- the probe at a worker's start ---------------------------------------------------------------
def test_the_probe_finds_everything_here() -> None:
    found = probe(Settings())
    assert found.missing == ()
    assert found.overridden is False


def weakened(change: str) -> tuple[str, ...]:
    code = f"from workers.confinement import *\n{change}\nfrom workers.confinement import trial\n"
    return (*PROGRAM[:2], "-c", code + "trial.main()")


def test_what_says_it_works_and_does_not_is_found_out() -> None:
    lying = weakened(
        "from app.domain.confinement import Mechanism\n"
        "from app.confinement import landlock, seccomp\n"
        "landlock.apply = seccomp.apply = lambda *_: Mechanism(active=True, detail='said so')"
    )
    settings = Settings(allow_unconfined=True)
    found = probe(settings, lying)
    assert found.missing == ("landlock", "seccomp")
    assert "opening a socket was possible" in found.seccomp.detail
    assert "making a process was possible" in found.seccomp.detail
    assert "reading elsewhere was possible" in found.landlock.detail
    assert found.overridden


def test_a_probe_that_dies_finds_nothing() -> None:
    found = probe(Settings(), (sys.executable, "-c", "raise SystemExit('no python here')"))
    assert found.missing == ("user", "landlock", "seccomp")
    assert "no python here" in found.user.detail


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux'")
@pytest.mark.parametrize("listed", [True, False])
def test_devices_of_accelerators_are_used_and_others_are_not(folder: Path, listed: bool) -> None:
    """With the terminal multiplexer as the accelerator: read, written, and told (TIOCGPTN)."""
    before = """
        from workers.confinement import paths
        paths.ACCELERATORS = LISTED
        def use():
            done = []
            for path in ("/dev/ptmx", "/proc/self/task/%d/comm" % os.getpid()):
                try:
                    with open(path, "r+b" if "dev" in path else "wb", buffering=0) as file:
                        done.append(path.split("/")[-1])
                        if "dev" in path:
                            import fcntl
                            fcntl.ioctl(file, 0x80045430, bytes(4))
                            done.append("ioctl")
                except OSError as error:
                    done.append(error.errno)
            return done
    """.replace("LISTED", "('ptmx',)" if listed else "()")
    done = confined(folder, textwrap.dedent(before).strip().replace("\n", "\n        "), "use()")
    assert done == (["ptmx", "ioctl", "comm"] if listed else [13, 13])
