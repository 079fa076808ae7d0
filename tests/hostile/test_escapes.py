"""Every way out that we could think of, tried by a job in a copy of the real template."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import app
from app.domain.errors import Unconfined
from app.domain.job import Status
from tests.hostile.jail import Jail, jail
from workers import disk
from workers.confinement import Limits
from workers.confinement.environment import ALLOWED
from workers.parent import Child
from workers.protocol import Ready, parse

ESCAPES = Path(__file__).with_name("escapes.py").read_text()
IDLE = "time.sleep(60)"


@pytest.fixture
def prison(tmp_path: Path) -> Iterator[Jail]:
    made = jail(tmp_path)
    yield made
    made.database.close()


def ready(child: Child) -> Ready:
    while True:
        for line in child.read(1.0) or []:
            message = parse(line)
            assert isinstance(message, Ready)
            return message


def escaped(prison: Jail, tmp_path: Path, imports: str) -> dict[str, Any]:
    """What a hostile job has reached, with another job beside it and a socket to talk to."""
    listening = socket.socket(socket.AF_UNIX)
    path = tmp_path / "socket"
    listening.bind(str(path))
    path.chmod(0o777)
    listening.listen()
    with prison.child(prison.program(IDLE)) as other:
        ready(other)
        secret = other.scratch / "secret"
        secret.write_text("another job's")
        secret.chmod(0o644)
        program = prison.program(
            ESCAPES,
            imports,
            socket=str(path),
            database=prison.settings.effective_database_url.removeprefix("sqlite:///"),
            store=str(prison.store.root),
            data=str(prison.settings.data_dir),
            source=str(Path(app.__path__[0]).parent / "pyproject.toml"),
            other_file=str(secret),
            other_folder=str(other.folder),
            other_pid=other.pid,
        )
        result = prison.result(program)
        assert other.alive()
    listening.close()
    return json.loads(result["notes"][0]) | {"confinement": result["confinement"]}


@pytest.mark.parametrize("imports", ["pass", "import tensorflow"], ids=["bare", "tensorflow"])
def test_nothing_gets_out(
    prison: Jail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imports: str
) -> None:
    if imports != "pass" and os.getuid() != 0:
        pytest.skip("TensorFlow's threads are the same whoever starts them: seen as root")
    monkeypatch.setenv("SECATEUR_SECRET", "hidden")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    found = escaped(prison, tmp_path, imports)
    assert {k: v for k, v in found["escapes"].items() if v != "denied"} == {}
    assert {k: v for k, v in found["needed"].items() if v != "possible"} == {}
    # Input, output, log, and the pipe to the parent.
    assert found["descriptors"] == [0, 1, 2, 3]
    assert "SECATEUR_SECRET" not in found["environment"]
    assert found["gpus"] == "-1", "what a worker's environment says of GPUs reaches its jobs"
    # TensorFlow sets some for itself.
    assert found["tensorflow"] or set(found["environment"]) <= ALLOWED | {"LC_CTYPE"}
    assert set(found["seccomp"]) == {2}
    assert set(found["no_new_privileges"]) == {1}
    # At most CAP_DAC_READ_SEARCH, where Python lies in a folder that only root may enter.
    assert set(found["capabilities"]) <= {0, 1 << 2}
    assert (imports != "pass") is found["tensorflow"]
    assert len(found["seccomp"]) > 1 or not found["tensorflow"]
    if os.getuid() == 0:
        first = prison.settings.job_uid_first
        assert first <= found["user"] < first + prison.settings.job_uid_count
    assert found["confinement"]["user"]["active"]
    assert found["confinement"]["landlock"]["active"]
    assert found["confinement"]["seccomp"]["active"]
    assert found["confinement"]["overridden"] is False


@pytest.mark.parametrize(
    "attack",
    [
        "libc.ptrace(0, 0, 0, 0)",
        "libc.process_vm_readv(os.getppid(), None, 0, None, 0, 0)",
        "libc.mount(b'none', b'/', b'tmpfs', 0, None)",
        "libc.setns(0, 0)",
        "libc.syscall(ctypes.c_long(NUMBER('bpf')), 0, None, 0)",
        "libc.syscall(ctypes.c_long(NUMBER('keyctl')), 0, 0, 0, 0, 0)",
        "libc.syscall(ctypes.c_long(NUMBER('open_by_handle_at')), 0, None, 0)",
        "libc.syscall(ctypes.c_long(0x40000000 + 39)) if MACHINE == 'x86_64' else libc.ptrace(0)",
    ],
)
def test_an_attack_on_the_kernel_ends_the_job(prison: Jail, attack: str) -> None:
    kind, words = prison.failure(
        f"""
        from app.confinement.kernel import MACHINE
        from app.confinement.syscalls import ARCHITECTURES
        NUMBER = ARCHITECTURES[MACHINE].number
        {attack}
        """
    )
    assert kind == "forbidden-operation"
    assert "system call" in words


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("bytearray(8 * 2**30)", "out-of-memory", "more than the 4 GiB of memory"),
        ("while True: pass", "time-limit", "the 2 s of CPU time"),
        ("import signal; signal.signal(24, 1)\nwhile True: pass", "time-limit", "2 s of CPU time"),
        ("(scratch / 'big').write_bytes(bytes(3 * 2**20))", "resource-limit", "0.00195 GiB a job"),
        ("files = [open('/dev/null') for _ in range(200)]", "resource-limit", "128 open files"),
        ("os.fork()", "forbidden-operation", "no other programs or processes"),
        ("open('/etc/passwd')", "forbidden-operation", "may read its own folder"),
        ("socket.socket()", "forbidden-operation", "no network"),
        ("os.abort()", "crashed", "SIGABRT"),
        ("ctypes.string_at(0)", "crashed", "SIGSEGV"),
    ],
)
def test_a_limit_is_named(prison: Jail, body: str, kind: str, words: str) -> None:
    prison.limits = Limits(
        memory_bytes=4 * 2**30, file_bytes=2 * 2**20, processes=4096, cpu_seconds=2, open_files=128
    )
    found = prison.failure(body)
    assert found[0] == kind, found
    assert words in found[1]


def test_a_flood_of_threads_is_stopped(prison: Jail) -> None:
    """By the user's own number where there is one; an ordinary user's processes all count."""
    if os.getuid() != 0:
        pytest.skip("the number of an ordinary user's processes is not this test's to fill")
    prison.limits = Limits.of(prison.settings).model_copy(update={"processes": 64})
    body = "while True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    kind, words = prison.failure(body)
    assert kind == "resource-limit"
    assert "64 processes and threads" in words


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (
            "for n in range(10**6): (out / str(n)).write_bytes(bytes(2**20)); time.sleep(0.001)",
            "0.0625 GiB of disk space",
        ),
        ("for n in range(1000): (out / str(n)).touch()\ntime.sleep(60)", "500 files"),
        (
            "os.chdir(scratch)\nfor _ in range(1200): os.mkdir('d'); os.chdir('d')\ntime.sleep(60)",
            "32 deep",
        ),
        (
            "while True: os.write(2, bytes(2**20)); time.sleep(0.001)",
            "0.0625 GiB of disk space",
        ),
    ],
    ids=["bytes", "files", "nesting", "log"],
)
def test_a_full_disk_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: str, words: str
) -> None:
    monkeypatch.setattr(disk, "ENTRIES", 500)
    prison = jail(tmp_path, job_disk_bytes=64 * 2**20)
    kind, said = prison.failure(fill)
    prison.database.close()
    assert kind == "resource-limit"
    assert words in said


@pytest.mark.parametrize(
    ("trick", "words"),
    [
        ("(out / 'metrics.json').mkdir()", "no plain file"),
        ("pass", "cannot be read"),
        ("(out / 'metrics.json').write_bytes(bytes(2**21))", "at most 1048576 bytes"),
        ("(out / 'metrics.json').touch(); out.chmod(0)", ""),
    ],
    ids=["folder", "nothing", "large", "closed folder"],
)
def test_tricks_in_the_out_folder(tmp_path: Path, trick: str, words: str) -> None:
    prison = jail(tmp_path, job_file_bytes=2**20)
    prison.limits = Limits.of(prison.settings).model_copy(update={"file_bytes": 2**30})
    attempt = prison.claim()
    program = prison.program(f"{trick}\nreturn METRICS, ['metrics.json']")
    ended = prison.carry_out(attempt, program)
    error = prison.jobs.get(attempt.job).error
    prison.database.close()
    if not words and os.getuid() == 0:
        # Root opens what its owner has closed; it is a plain file all the same.
        assert ended is Status.SUCCEEDED
        return
    assert ended is Status.FAILED
    assert error.type == "/problems/internal"
    assert words in error.detail


def test_a_checkpoint_that_is_no_file_is_refused(prison: Jail) -> None:
    kind, words = prison.failure(
        """
        from workers.protocol import Saved
        (scratch / "checkpoint-1.zip").mkdir()
        reporter.send(Saved(file="checkpoint-1.zip", epoch=1))
        time.sleep(60)
        """
    )
    assert kind == "internal"
    assert "cannot be read" in words


def test_a_flood_of_words_is_stopped(prison: Jail) -> None:
    kind, words = prison.failure(
        """
        line = '{"type": "told", "kind": "note", "data": {"text": "' + "x" * 2**20 + '"}}\\n'
        while True:
            os.write(3, line.encode())
        """
    )
    assert kind == "internal"
    assert "67108864 bytes of messages" in words


def test_a_nul_character_reaches_no_database(prison: Jail) -> None:
    body = "return METRICS | {'notes': ['a' + chr(0) + 'b']}, []"
    assert prison.result(prison.program(body))["notes"] == ["a\ufffdb"]


def test_who_cannot_confine_runs_no_job(prison: Jail, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = prison.claim()
    # What the child would say on a kernel without seccomp.
    program = prison.program("(out / 'touched').touch()")
    unable = (
        "from app.confinement import seccomp\n"
        "from app.domain.confinement import Mechanism\n"
        "seccomp.apply = lambda: Mechanism(detail='no such call')\n"
    )
    program = (*program[:-1], unable + program[-1])
    assert prison.carry_out(attempt, program) is Status.FAILED
    error = prison.jobs.get(attempt.job).error
    assert error.type == f"/problems/{Unconfined.slug}"
    assert "a seccomp filter: no such call" in error.detail
    assert "SECATEUR_ALLOW_UNCONFINED" in error.detail

    prison.settings = prison.settings.model_copy(update={"allow_unconfined": True})
    found = prison.result(program)
    assert found["confinement"]["overridden"] is True
    assert found["confinement"]["seccomp"] == {"active": False, "detail": "no such call"}
