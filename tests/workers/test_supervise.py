"""The supervisor against children that crash, lie, hang, and lose their lease.

The children are small programs; the database is SQLite, the store a folder.
"""

import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from app.adapters.database import ArtifactRow, Database, EventRow, JobRow, migrate
from app.adapters.store import FolderStore
from app.domain.errors import Unavailable
from app.domain.job import Attempt, Status
from app.domain.spec import PruningSpec
from app.services import lifecycle, operations
from app.services.analyses import Analyses
from app.services.examples import Examples
from app.services.jobs import Jobs
from app.services.uploads import Uploads
from app.settings import Settings
from tests.workers.results import RESULTS
from workers.confinement import Limits, environment
from workers.parent import Child
from workers.protocol import LINE_LIMIT_BYTES
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
        model = open(order["model_path"], "rb").read()
        open(os.path.join(order["out"], "model.keras"), "wb").write(model)
        RESULT["after"]["parameters"] = order["model"]["parameters"]
        print("a word for the log", file=sys.stderr)
        tell(type="done", result=RESULT, files=["model.keras"])
        """,
    )
    assert ended is Status.SUCCEEDED, world.jobs.get(attempt.job).error
    files = {file.name: file for file in world.jobs.artifacts(attempt.job)}
    assert set(files) == {"model.keras", "log.txt"}
    kept = b"".join(world.store.read(files["log.txt"].key, 0, files["log.txt"].bytes))
    assert b"a word for the log" in kept
    assert not world.folder.exists()


BACK = """
    import zipfile
    model = os.path.join(order["out"], "model.keras")
    open(model, "wb").write(open(order["model_path"], "rb").read())
    RESULT["after"]["parameters"] = order["model"]["parameters"]
    {}
    tell(type="done", result=RESULT, files=["model.keras"])
"""


@pytest.mark.parametrize(
    ("doing", "words"),
    [
        ('open(model, "ab").write(b"more")', "cannot|must|damaged|holds"),
        ('open(model, "wb").write(b"smaller")', "neither|not a"),
        ('zipfile.ZipFile(model, "a").writestr("evil.py", "x")', "evil.py"),
        ('RESULT["after"]["parameters"] -= 1', "parameters, the job told"),
    ],
)
def test_a_model_that_cannot_be_read_back_is_not_offered(
    world: World, doing: str, words: str
) -> None:
    attempt = world.claim()
    assert world.supervise(attempt, BACK.format(doing)) is Status.FAILED
    error = world.jobs.get(attempt.job).error
    assert error.type == "/problems/internal"
    assert "read back" in error.detail
    assert re.search(words, error.detail), error.detail
    assert {file.name for file in world.jobs.artifacts(attempt.job)} == {"log.txt"}


def test_the_lease_is_kept_while_files_are_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = world.claim()
    reaped: list[str] = []

    def slow(*_: Any) -> None:
        time.sleep(2 * world.settings.lease_seconds)
        reaped.extend(lifecycle.reap(world.database))

    monkeypatch.setattr("workers.storing.read_back", slow)
    done = 'tell(type="done", result=RESULT, files=[])'
    assert world.supervise(attempt, done) is Status.SUCCEEDED
    assert reaped == []


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


SAVE = """
    def save(epoch):
        name = f"checkpoint-{epoch}.zip"
        open(os.path.join(order["scratch"], name), "wb").write(b"epoch %d" % epoch)
        tell(type="saved", file=name, epoch=epoch)
"""
FINISH = """
    open(os.path.join(order["out"], "metrics.json"), "wb").write(b"smaller")
    tell(type="done", result=RESULT, files=["metrics.json"])
"""


def test_who_lost_the_lease_leaves_the_checkpoint_that_the_next_attempt_needs(
    world: World,
) -> None:
    attempt = world.claim()

    def rob() -> None:
        with world.database.write() as session:
            session.execute(
                update(JobRow).where(JobRow.id == attempt.job).values(state=Status.QUEUED)
            )

    threading.Timer(1.0, rob).start()
    assert world.supervise(attempt, SAVE + "    save(1); time.sleep(60)") is None
    again = lifecycle.claim(world.database, attempt.job, "test", 5)
    assert again is not None
    assert world.supervise(again, FINISH) is Status.SUCCEEDED


def failing(times: int, real: Callable[..., Any], error: Exception, after: bool) -> Any:
    """A function that fails so many times: before it did its work, or after."""
    left = [times]

    def call(*args: Any, **kw: Any) -> Any:
        if left[0] and not after:
            left[0] -= 1
            raise error
        answer = real(*args, **kw)
        if left[0]:
            left[0] -= 1
            raise error
        return answer

    return call


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
def test_a_database_that_is_away_at_the_end_costs_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    attempt = world.claim()
    away = Unavailable("The database does not answer.")
    for name in ("finish", "keep_checkpoint"):
        monkeypatch.setattr(lifecycle, name, failing(2, getattr(lifecycle, name), away, after))
    assert world.supervise(attempt, SAVE + "    save(1)" + FINISH) is Status.SUCCEEDED
    (file,) = (f for f in world.jobs.artifacts(attempt.job) if f.name == "metrics.json")
    assert b"".join(world.store.read(file.key, 0, file.bytes)) == b"smaller"
    with world.database.read() as session:
        kinds = session.scalars(select(EventRow.kind).where(EventRow.job_id == attempt.job)).all()
    assert kinds.count("succeeded") == 1


def test_a_full_store_is_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = world.claim()
    full = Unavailable("No space left on device")
    monkeypatch.setattr(world.store, "put_file", failing(3, world.store.put_file, full, False))
    assert world.supervise(attempt, SAVE + "    save(1)" + FINISH) is Status.SUCCEEDED


def test_a_store_that_stays_full_costs_an_attempt_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settings = world.settings.model_copy(update={"store_patience_seconds": 0.5})
    full = Unavailable("No space left on device")
    monkeypatch.setattr(world.store, "put_file", failing(10**6, world.store.put_file, full, False))
    attempt: Attempt | None = world.claim()
    for number in range(1, world.settings.max_attempts + 1):
        assert attempt is not None
        assert attempt.fence == number
        assert world.supervise(attempt, FINISH) is None
        attempt = lifecycle.claim(world.database, attempt.job, "test", 5)
    assert attempt is None
    (job,) = world.jobs.newest(1, None)
    assert job.status is Status.FAILED
    assert "No space left" in job.error.detail
    monkeypatch.undo()
    again = world.jobs.retry(job.id)
    attempt = lifecycle.claim(world.database, again.id, "test", 5)
    assert attempt is not None
    assert world.supervise(attempt, FINISH) is Status.SUCCEEDED


def test_a_slow_store_does_not_lose_the_lease(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = world.claim()
    real = world.store.put_file

    def slow(*args: Any) -> Any:
        time.sleep(1.2 * world.settings.lease_seconds)
        assert lifecycle.reap(world.database) == ()
        assert lifecycle.claim(world.database, attempt.job, "thief", 5) is None
        return real(*args)

    monkeypatch.setattr(world.store, "put_file", slow)
    assert world.supervise(attempt, "tell(type='done', result=RESULT, files=[])") is not None
    assert world.jobs.get(attempt.job).status is Status.SUCCEEDED


def test_a_job_that_ends_while_it_is_being_cancelled_is_cancelled(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = world.claim()
    real = world.store.put_file

    def cancelled_meanwhile(*args: Any) -> Any:
        world.jobs.cancel(attempt.job)
        return real(*args)

    monkeypatch.setattr(world.store, "put_file", cancelled_meanwhile)
    assert world.supervise(attempt, FINISH) is Status.CANCELLED
    assert world.jobs.get(attempt.job).status is Status.CANCELLED
    assert not world.jobs.artifacts(attempt.job)
    assert not [path for path in world.store.root.glob("jobs/**/*") if path.is_file()]


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


def test_who_lost_the_lease_leaves_the_checkpoint_to_the_next(world: World) -> None:
    attempt = world.claim()

    def put_back() -> None:
        operations.requeue(world.database, world.settings, attempt.job)

    threading.Timer(0.8, put_back).start()
    save = """
        open(os.path.join(order["scratch"], "checkpoint-1.zip"), "wb").write(b"epoch 1")
        tell(type="saved", file="checkpoint-1.zip", epoch=1)
        time.sleep(60)
    """
    assert world.supervise(attempt, save) is None
    again = lifecycle.claim(world.database, attempt.job, "test", 5)
    assert again is not None
    assert again.checkpoint is not None
    go_on = """
        assert open(order["checkpoint_path"], "rb").read() == b"epoch 1"
        tell(type="done", result=RESULT, files=[])
    """
    assert world.supervise(again, go_on) is Status.SUCCEEDED
    assert not list(world.store.root.glob("jobs/*/*/checkpoint*"))
