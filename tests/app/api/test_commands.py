"""The commands against the real API, whose worker is played: what they say, and exit codes."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import Result
from typer.testing import CliRunner

from app import command_line, prune_command, sweep_command
from app.cli import cli
from app.client import Job, Secateur, sync
from app.command_line import Code
from app.domain import errors
from app.domain.job import ArtifactFile, Status
from app.domain.metrics import Metrics
from app.services import lifecycle
from app.services.examples import DATASET_FILE, MODEL_FILE
from tests.app.api.conftest import Api
from tests.app.plots.test_job import metrics

Play = Callable[..., None]
TARGET = {"kind": "fraction", "asked": 0.5, "unit": "share of the units removed"}
REACHED = TARGET | {"achieved": 0.5, "met": True, "within": True}
MISSED = TARGET | {"achieved": 0.3, "met": False, "within": False, "note": "residual blocks"}


@pytest.fixture(autouse=True)
def _quiet_service() -> Iterator[None]:
    """The service runs in this process, and must not log to the commands' stdout."""
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    yield
    structlog.configure(**before)


@pytest.fixture
def secateur(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command; the service is named in the environment."""
    monkeypatch.setenv("SECATEUR_URL", str(api.base_url))

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [str(each) for each in arguments])

    return run


@pytest.fixture
def worker(api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Play:
    """Has the next jobs end as they are submitted."""
    submit = sync.Jobs.submit

    def plays(
        status: Status = Status.SUCCEEDED,
        figures: Metrics | None = None,
        error: errors.SecateurError | None = None,
    ) -> None:
        def submitting(jobs: sync.Jobs, spec: Any) -> Job:
            job = submit(jobs, spec)
            names = ["log.txt"] if error else ["log.txt", "model.keras", "model.tflite"]
            lifecycle.finish(
                api.context.database,
                api.attempt(job.id),
                status,
                result=figures.model_dump(mode="json", by_alias=True) if figures else None,
                error=error.as_problem() if error else None,
                artifacts=[stored(api, job.id, name, tmp_path) for name in names],
            )
            return job

        monkeypatch.setattr(sync.Jobs, "submit", submitting)

    return plays


def stored(api: Api, job: str, name: str, folder: Path) -> ArtifactFile:
    file = folder / "artifact"
    file.write_bytes(name.encode())
    blob = api.context.store.put_file(f"jobs/{job}/a1/{name}", file)
    return ArtifactFile(
        name=name, key=blob.key, bytes=blob.bytes, sha256=blob.sha256, media_type="text/plain"
    )


# --- prune -------------------------------------------------------------------------------------
def test_a_folder_gets_all_files(secateur: Any, worker: Play, tmp_path: Path) -> None:
    worker(figures=metrics(target=REACHED, verdict=["Half of it is gone."]))
    out = tmp_path / "new" / "out"
    done = secateur("prune", MODEL_FILE, "--data", DATASET_FILE, "--units", 0.5, "-o", out)
    assert done.exit_code == Code.DONE, done.output
    assert "Half of it is gone." in done.stdout
    assert "accuracy" in done.stdout
    assert done.stderr.startswith("Job job_")
    assert {file.name for file in out.iterdir()} == {"log.txt", "model.keras", "model.tflite"}


def test_a_name_in_keras_gets_the_model_alone(secateur: Any, worker: Play, tmp_path: Path) -> None:
    worker(figures=metrics())
    done = secateur("prune", MODEL_FILE, "--sparsity", 0.9, "-o", tmp_path / "o" / "small.keras")
    assert done.exit_code == Code.DONE, done.output
    assert [file.name for file in (tmp_path / "o").iterdir()] == ["small.keras"]


def test_in_json_stdout_is_json_alone(secateur: Any, worker: Play, tmp_path: Path) -> None:
    worker(figures=metrics(target=MISSED))
    out = tmp_path / "out"
    done = secateur(
        "prune", MODEL_FILE, "--channels", 0.5, "--export", "litert", "--json", "-o", out
    )
    said = json.loads(done.stdout)
    assert done.exit_code == Code.GOAL_MISSED
    assert said["goal_reached"] is False
    assert said["missed"] == [
        "the goal was missed: 0.3 where 0.5 was asked for, share of the units removed "
        "(residual blocks)."
    ]
    assert said["job"]["spec"]["exports"] == ["keras", "litert"]
    assert said["job"]["metrics"]["after"]["parameters"] == 500
    assert str(out / "model.keras") in said["files"]
    assert "secateur: the goal was missed" in done.stderr


@pytest.mark.parametrize(
    ("drop", "below", "passes"),
    [
        (5.0, None, True),
        (4.9, None, False),
        (None, 0.9, True),
        (None, 0.91, False),
        (5, 0.91, False),
    ],
)
def test_gates(drop: float | None, below: float | None, passes: bool) -> None:
    """0.95 became 0.90."""
    assert (prune_command.gates(metrics(), drop, below) == []) is passes


def test_without_an_accuracy_a_gate_is_not_passed() -> None:
    assert "no accuracy" in prune_command.gates(metrics(None), 1.0, None)[0]
    assert prune_command.gates(metrics(None), None, None) == []


def test_a_gate_has_its_code(secateur: Any, worker: Play, tmp_path: Path) -> None:
    worker(figures=metrics(target=REACHED))
    done = secateur("prune", MODEL_FILE, "--units", 0.5, "--fail-drop", 1, "-o", tmp_path / "out")
    assert done.exit_code == Code.GOAL_MISSED
    assert "5.00 points of accuracy were lost, more than --fail-drop 1." in done.stderr
    assert (tmp_path / "out" / "model.keras").exists()


def test_a_failed_job_leaves_its_log(secateur: Any, worker: Play, tmp_path: Path) -> None:
    worker(Status.FAILED, error=errors.OutOfMemory("8 GiB were not enough."))
    done = secateur("prune", MODEL_FILE, "--units", 0.5, "--json", "-o", tmp_path / "out")
    assert done.exit_code == Code.FAILED
    assert json.loads(done.stdout)["error"]["type"] == "/problems/job-has-failed"
    assert "failed: 8 GiB were not enough." in done.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["log.txt"]


def test_a_job_that_somebody_cancelled(secateur: Any, worker: Play, tmp_path: Path) -> None:
    worker(Status.CANCELLED)
    done = secateur("prune", MODEL_FILE, "--units", 0.5, "-o", tmp_path)
    assert done.exit_code == Code.CANCELLED


def test_ctrl_c_cancels_the_job(
    secateur: Any, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    waiting: list[str] = []

    def interrupted(job: Job, **_: object) -> None:
        waiting.append(job.id)
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "wait", interrupted)
    done = secateur("prune", MODEL_FILE, "--units", 0.5, "-o", tmp_path)
    assert done.exit_code == Code.INTERRUPTED
    with Secateur(str(api.base_url)) as client:
        assert client.jobs.get(waiting[0]).state.status is Status.CANCELLED


def test_detached_it_says_the_id(secateur: Any, api: Api, tmp_path: Path) -> None:
    done = secateur("prune", MODEL_FILE, "--units", 0.5, "--detach", "-o", tmp_path)
    assert done.exit_code == Code.DONE
    assert api.get(f"/v1/jobs/{done.stdout.strip()}").json()["status"] == "queued"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Say what to prune"),
        (["--units", "0.5", "--macs", "0.5"], "got 2"),
        (["--units", "2"], "less than or equal to 1"),
        (["--units", "0.5", "--data-options", "[]"], "expected a JSON object"),
        (["--units", "0.5", "--data-options", "{"], "not valid JSON"),
    ],
)
def test_wrong_usage(secateur: Any, arguments: list[str], said: str) -> None:
    done = secateur("prune", MODEL_FILE, *arguments)
    assert done.exit_code == Code.USAGE
    assert said in " ".join(done.stderr.split())


def test_detached_needs_a_service_that_stays(
    secateur: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SECATEUR_URL")
    assert secateur("prune", MODEL_FILE, "--units", 0.5, "--detach").exit_code == Code.USAGE


def test_a_service_that_is_not_there(secateur: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.client.flows.backoff", lambda _: 0.0)
    done = secateur("jobs", "--server", "http://127.0.0.1:1", "--json")
    assert done.exit_code == Code.NO_SERVICE
    assert json.loads(done.stdout)["error"]["type"] == "/problems/unreachable"


# --- the other commands ------------------------------------------------------------------------
def test_jobs_logs_cancel_download(secateur: Any, api: Api, tmp_path: Path) -> None:
    job = api.job()
    assert job in secateur("jobs").stdout
    assert job in [each["id"] for each in json.loads(secateur("jobs", "--json").stdout)["items"]]
    assert job not in secateur("jobs", "--status", "failed").stdout
    cancelled = secateur("cancel", job)
    assert cancelled.stdout == f"{job} is cancelled.\n"
    lines = secateur("logs", job, "-f").stdout.splitlines()
    assert [each.split()[1] for each in lines] == ["queued", "cancelled"]
    events = secateur("logs", job, "--json").stdout.splitlines()
    assert [json.loads(each)["kind"] for each in events] == ["queued", "cancelled"]

    done = api.finished(tmp_path, model_keras=b"k", report_html=b"r")
    fetched = secateur("download", done, "report.html", "-o", tmp_path / "one")
    assert fetched.stdout.strip() == str(tmp_path / "one" / "report.html")
    assert secateur("download", done, "-o", tmp_path / "all").exit_code == Code.DONE
    assert {each.name for each in (tmp_path / "all").iterdir()} == {"model.keras", "report.html"}
    none = secateur("download", done, "none", "-o", tmp_path)
    assert none.exit_code == Code.FAILED
    assert "has no artifact" in none.stderr


def test_a_sweep_is_submitted_from_a_grid(secateur: Any, api: Api) -> None:
    grid = ("--grid", "prune.granularity=weight,unit", "--grid", "prune.target.remove=0.5,0.9")
    done = secateur("sweep", MODEL_FILE, *grid, "--epochs", 0, "--detach", "--json")
    assert done.exit_code == Code.DONE, done.output
    jobs = api.get(f"/v1/sweeps/{json.loads(done.stdout)['id']}").json()["jobs"]
    assert [job["varied"]["prune.target.remove"] for job in jobs] == [0.5, 0.9, 0.5, 0.9]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a.b=0.5,0.9", ("a.b", [0.5, 0.9])),
        ("a=unit,null", ("a", ["unit", None])),
        ('a=[["keras"], ["keras", "litert"]]', ("a", [["keras"], ["keras", "litert"]])),
    ],
)
def test_a_grid_is_read(text: str, read: Any) -> None:
    assert sweep_command.values(text) == read


@pytest.mark.parametrize("text", ["a", "=1", "a=", "a=[1"])
def test_a_grid_that_is_none(secateur: Any, text: str) -> None:
    done = secateur("sweep", MODEL_FILE, "--grid", text)
    assert done.exit_code == Code.USAGE


def test_each_code_is_in_the_help() -> None:
    said = CliRunner().invoke(cli, ["prune", "--help"]).output
    for code in Code:
        assert f"{int(code)} " in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"_SECATEUR_COMPLETE": f"complete_{shell}", "COMP_WORDS": "secateur s"}
    variables |= {"COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "secateur s"}
    variables |= {
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": "s",
    }
    done = CliRunner().invoke(cli, [], env=variables, prog_name="secateur")
    assert "sweep" in done.output
    assert "serve" in done.output
    assert "jobs" not in done.output


def test_codes_of_errors() -> None:
    assert command_line.code_of(errors.InvalidModel("x")) is Code.FAILED
    assert command_line.code_of(errors.Unauthenticated("x")) is Code.NO_SERVICE
    assert command_line.code_of(errors.QueuesFull("x")) is Code.NO_SERVICE
