"""The supervisor against children that crash, lie, hang, and lose their lease.

The children are small programs; the database is SQLite, the store a folder.
"""

import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from app.adapters.database import ArtifactRow, Database, JobRow, migrate
from app.adapters.store import FolderStore
from app.domain.job import Attempt, Status
from app.domain.spec import PruningSpec
from app.services import lifecycle
from app.services.analyses import Analyses
from app.services.examples import Examples
from app.services.jobs import Jobs
from app.services.uploads import Uploads
from app.settings import Settings
from tests.workers.results import RESULTS
from workers.confinement import Limits, environment
from workers.protocol import LINE_LIMIT_BYTES
from workers.spare import Child
from workers.supervise import Supervisor


class SilentQueue:
    """A broker that forgets everything, which is allowed."""

    def wake(self, queue: str) -> None:
        pass

    def depth(self, kind: str) -> int:
        return 0

    def ping(self) -> None:
        pass


class World:
    """A database with the example model, a store, and settings with short times."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder, lease_seconds=2, heartbeat_seconds=0.1)
        url = self.settings.effective_database_url
        migrate(url)
        self.database = Database(url)
        self.store = FolderStore(self.settings.store_dir)
        self.jobs = Jobs(self.database, self.store, SilentQueue(), self.settings)
        Examples(Uploads(self.database, self.store, self.settings), self.jobs).ensure("mdl_example")
        self.draining = False

    def claim(self, **more: Any) -> Attempt:
        spec = PruningSpec.model_validate(
            {
                "model": "mdl_example",
                "prune": {"target": {"kind": "fraction", "remove": 0.5}},
            }
            | more
        )
        id_ = self.jobs.submit(spec).body["id"]
        attempt = lifecycle.claim(self.database, id_, "test", self.settings.lease_seconds)
        assert attempt is not None
        return attempt

    def supervise(self, attempt: Attempt, program: str) -> Status | None:
        code = textwrap.dedent(
            """
            import json, os, sys, time
            def tell(**message): print(json.dumps(message), flush=True)
            active = {"active": True, "detail": "said so"}
            tell(type="ready", confinement=dict.fromkeys(["user", "landlock", "seccomp"], active))
            order = json.loads(sys.stdin.readline())
            """
        )
        code += f"RESULT = {RESULTS!r}[order['kind']]\n"
        code += textwrap.dedent(program)
        child = Child(Limits.of(self.settings), (sys.executable, "-c", code))
        self.folder = child.folder
        try:
            return Supervisor(
                self.database, self.store, self.settings, attempt, child, lambda: self.draining
            ).run()
        finally:
            child.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.database.close()


def test_a_result_is_published_with_its_files(world: World) -> None:
    attempt = world.claim()
    ended = world.supervise(
        attempt,
        """
        assert os.path.getsize(order["model_path"]) > 1000
        tell(type="told", kind="phase", data={"phase": "loading"},
             progress={"phase": "loading", "share": 0.5})
        open(os.path.join(order["out"], "model.keras"), "wb").write(b"smaller")
        print("a word for the log", file=sys.stderr)
        tell(type="done", result=RESULT, files=["model.keras"])
        """,
    )
    assert ended is Status.SUCCEEDED
    files = {file.name: file for file in world.jobs.artifacts(attempt.job)}
    assert set(files) == {"model.keras", "log.txt"}
    kept = b"".join(world.store.read(files["log.txt"].key, 0, files["log.txt"].bytes))
    assert b"a word for the log" in kept
    assert not world.folder.exists()


def test_an_analysis_publishes_its_page_and_no_log(world: World) -> None:
    id_ = Analyses(world.jobs)._begin("mdl_example")
    attempt = lifecycle.claim(world.database, id_, "test", world.settings.lease_seconds)
    assert attempt is not None
    ended = world.supervise(
        attempt,
        """
        assert order["kind"] == "analysis"
        open(os.path.join(order["out"], "analysis.html"), "w").write("a page")
        tell(type="done", result=RESULT, files=["analysis.html"])
        """,
    )
    assert ended is Status.SUCCEEDED
    with world.database.read() as session:
        names = session.scalars(select(ArtifactRow.name).where(ArtifactRow.job_id == id_)).all()
    assert names == ["analysis.html"]


@pytest.mark.parametrize(
    ("program", "kind", "words"),
    [
        ("os.kill(os.getpid(), 11)", "crashed", "SIGSEGV"),
        ("os.kill(os.getpid(), 6)", "crashed", "SIGABRT"),
        ("os.kill(os.getpid(), 9)", "out-of-memory", "memory"),
        ("os.kill(os.getpid(), 24)", "time-limit", "CPU time"),
        ("sys.exit(7)", "crashed", "exit status 7"),
        ("raise MemoryError", "out-of-memory", "memory"),
        ("print('no json', flush=True); time.sleep(60)", "internal", "must not"),
        ("tell(type='told', kind='nonsense'); time.sleep(60)", "internal", "must not"),
        ("tell(type='done', result=RESULT, files=['../../x'])", "internal", "must not"),
        ("tell(type='done', result=RESULT, files=['evil.sh'])", "internal", "evil.sh"),
        (
            "os.symlink('/etc/passwd', os.path.join(order['out'], 'model.keras'));"
            "tell(type='done', result=RESULT, files=['model.keras'])",
            "internal",
            "no plain file",
        ),
        (f"sys.stdout.write('x' * {2 * LINE_LIMIT_BYTES})", "internal", "longer"),
        ("tell(type='done', result={'before': 1})", "internal", "must not"),
        ("tell(type='done', result=RESULT | {'seed': float('nan')})", "internal", "must not"),
        ("tell(type='told', kind='note', data={'loss': float('inf')})", "internal", "must not"),
        ("tell(type='refused', problem={'type': '/problems/x', 'detail': True})", "internal", "t"),
        ("print('[' * 100000, flush=True); time.sleep(60)", "internal", "must not"),
        (
            "tell(type='refused', problem={'type': '/problems/not-found', 'detail': 'no'})",
            "not-found",
            "no",
        ),
    ],
)  # fmt: skip
def test_a_bad_end_is_a_clear_error(world: World, program: str, kind: str, words: str) -> None:
    attempt = world.claim()
    assert world.supervise(attempt, program) is Status.FAILED
    job = world.jobs.get(attempt.job)
    assert job.status is Status.FAILED
    assert job.error.type == f"/problems/{kind}"
    assert words in job.error.detail
    assert {file.name for file in world.jobs.artifacts(attempt.job)} <= {"log.txt"}


def test_nothing_is_heard_before_the_child_is_confined(world: World) -> None:
    attempt = world.claim()
    child = Child(
        Limits.of(world.settings),
        (sys.executable, "-c", 'print(\'{"type": "told"}\', flush=True); input()'),
    )
    try:
        supervisor = Supervisor(
            world.database, world.store, world.settings, attempt, child, lambda: False
        )
        assert supervisor.run() is Status.FAILED
    finally:
        child.close()
    assert "told before ready" in world.jobs.get(attempt.job).error.detail


def test_the_wall_clock_ends_an_endless_job(world: World) -> None:
    attempt = world.claim(time_limit_seconds=1)
    assert world.supervise(attempt, "time.sleep(60)") is Status.FAILED
    assert world.jobs.get(attempt.job).error.type == "/problems/time-limit"


def test_cancel_is_relayed(world: World) -> None:
    attempt = world.claim()
    threading.Timer(0.5, lambda: world.jobs.cancel(attempt.job)).start()
    assert world.supervise(attempt, "time.sleep(60)") is Status.CANCELLED


def test_draining_hands_the_job_back_without_costing_an_attempt(world: World) -> None:
    attempt = world.claim()
    world.draining = True
    assert world.supervise(attempt, "time.sleep(60)") is None
    assert world.jobs.get(attempt.job).status is Status.QUEUED
    with world.database.read() as session:
        row = session.get_one(JobRow, attempt.job)
        assert row.attempts_allowed - row.fence == world.settings.max_attempts


def test_who_lost_the_lease_stops_and_publishes_nothing(world: World) -> None:
    attempt = world.claim()

    def usurp() -> None:
        with world.database.write() as session:
            session.execute(
                update(JobRow).where(JobRow.id == attempt.job).values(fence=JobRow.fence + 1)
            )

    threading.Timer(0.5, usurp).start()
    assert (
        world.supervise(
            attempt,
            """
            time.sleep(1)
            tell(type="done", result=RESULT, files=[])
            """,
        )
        is None
    )
    assert world.jobs.get(attempt.job).status is Status.RUNNING
    assert not (world.store.root / f"jobs/{attempt.job}/a{attempt.fence}").exists()


def test_a_checkpoint_is_stored_and_found_by_the_next_attempt(world: World) -> None:
    attempt = world.claim()
    save = """
        for epoch in (1, 2):
            name = f"checkpoint-{epoch}.zip"
            open(os.path.join(order["scratch"], name), "wb").write(b"epoch %d" % epoch)
            tell(type="saved", file=name, epoch=epoch)
        time.sleep(1)
        sys.exit(7)
    """
    world.supervise(attempt, save)
    world.jobs.retry(attempt.job)
    again = lifecycle.claim(world.database, attempt.job, "test", 5)
    assert again is not None
    assert again.checkpoint is not None
    assert again.checkpoint.epoch == 2
    ended = world.supervise(
        again,
        """
        assert open(order["checkpoint_path"], "rb").read() == b"epoch 2"
        tell(type="done", result=RESULT, files=[])
        """,
    )
    assert ended is Status.SUCCEEDED
    assert not list(world.store.root.glob("jobs/*/*/checkpoint*"))


def test_the_child_inherits_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("SECATEUR_DATABASE_URL", "secret")
    with (world.settings.data_dir / "open").open("w") as open_file:
        os.set_inheritable(open_file.fileno(), True)
        attempt = world.claim()
        ended = world.supervise(
            attempt,
            """
            assert "secret" not in str(os.environ), os.environ
            assert os.environ["HOME"] == os.environ["TMPDIR"] == order["scratch"]
            descriptors = {os.readlink(f"/proc/self/fd/{n}") for n in range(3, 30)
                           if os.path.exists(f"/proc/self/fd/{n}")}
            assert not descriptors, descriptors
            tell(type="done", result=RESULT, files=[])
            """,
        )
    assert ended is Status.SUCCEEDED, world.jobs.get(attempt.job).error


def test_the_environment_is_the_same_for_all(tmp_path: Path) -> None:
    assert set(environment(tmp_path)) >= {"PATH", "HOME", "TMPDIR", "KERAS_BACKEND"}


def test_limits_hold(tmp_path: Path) -> None:
    """The real child's own limits: memory, file size; and it dies with its parent."""
    import subprocess

    program = textwrap.dedent(
        """
        import resource, sys
        from workers.confinement.limits import Limits, limit_resources
        limit_resources(Limits(memory_bytes=2**30, file_bytes=1000, processes=5000, cpu_seconds=9))
        try:
            bytearray(2**31)
            sys.exit("memory was not limited")
        except MemoryError:
            pass
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with open(sys.argv[1], "wb", buffering=0) as file:
                file.write(b"x" * 2000)
                file.write(b"x" * 2000)
            sys.exit("file size was not limited")
        except OSError:
            pass
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (100, 100))
        except ValueError:
            print("kept")
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "file")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # Root may raise limits again; everybody else may not.
    assert os.geteuid() == 0 or done.stdout.strip() == "kept"


def test_a_child_dies_with_its_parent() -> None:
    import subprocess

    program = textwrap.dedent(
        """
        import subprocess, sys
        child = subprocess.Popen([sys.executable, "-c",
            "from app.confinement.process import die_with_parent; die_with_parent();"
            "print('armed', flush=True); import time; time.sleep(60)"], stdout=subprocess.PIPE)
        child.stdout.readline()
        print(child.pid, flush=True)
        import time; time.sleep(60)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone = _until(lambda: not _runs(pid))
    assert gone


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(("criterion", "there"), [("magnitude", False), ("taylor", True)])
def test_a_dry_run_is_handed_the_data_only_where_it_looks_at_it(
    world: World, criterion: str, there: bool
) -> None:
    Examples(Uploads(world.database, world.store, world.settings), world.jobs).ensure("dts_example")
    spec = PruningSpec.model_validate(
        {
            "model": "mdl_example",
            "dataset": "dts_example",
            "prune": {"criterion": criterion, "target": {"kind": "fraction", "remove": 0.5}},
        }
    )
    id_ = world.jobs._begin_plan(spec)
    attempt = lifecycle.claim(world.database, id_, "test", world.settings.lease_seconds)
    assert attempt is not None
    program = f"""
        assert (order["dataset_path"] is not None) is {there}
        assert not {there} or os.path.getsize(order["dataset_path"]) > 1000
        tell(type="done", result=RESULT, files=[])
        """
    assert world.supervise(attempt, program) is Status.SUCCEEDED
