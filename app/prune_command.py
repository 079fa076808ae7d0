"""`secateur prune`: upload, submit, follow, download, and say by the exit code how it went."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from app.client import Job, JobCancelled, JobFailed, Result, Secateur, SecateurError
from app.client.progress import Bars
from app.client.specs import GOALS, towards
from app.command_line import (
    Code,
    Speaker,
    check_writable,
    connected_or_own,
    read_json,
    read_json_file,
)
from app.domain.metrics import Metrics
from app.domain.pareto import LOSS, LOWER_IS_BETTER, by_interest
from app.terminal import results


@dataclass(frozen=True)
class Request:
    """What the command line said."""

    model: Path
    data: Path | None
    data_options: str
    goals: dict[str, float | None]
    epochs: int
    exports: tuple[str, ...]
    spec: Path | None
    output: Path
    fail_drop: float | None = None
    """Points of accuracy that may be lost."""
    fail_below: float | None = None
    """Least value of the first metric."""
    detach: bool = False


def run(request: Request, server: str | None, key: str | None, speaker: Speaker) -> Code:
    """Do it. Raises `SecateurError` with a sentence for the user."""
    spec = _spec(request)
    options = read_json(request.data_options, "--data-options")
    check_writable(request.output)
    with connected_or_own(server, key, speaker) as secateur, Bars(speaker.people) as bars:
        job = _submit(secateur, request, options, spec, bars)
        speaker.say(f"Job {job.id} on {secateur.url}")
        if request.detach:
            speaker.answer(job.state, job.id)
            return Code.DONE
        result = _wait(job, bars.bar(request.model.name), request, speaker)
        files = _save(result, request.output)
    missed = [] if result.goal_reached else [_missed_goal(result.metrics)]
    missed += gates(result.metrics, request.fail_drop, request.fail_below)
    speaker.answer(
        {"job": result.state, "files": files, "goal_reached": not missed, "missed": missed},
        results({request.model.name: result.metrics}),
        *result.verdict,
        f"Written: {', '.join(map(str, files))}",
    )
    for sentence in missed:
        speaker.say(f"secateur: {sentence}")
    return Code.GOAL_MISSED if missed else Code.DONE


def _submit(
    secateur: Secateur, request: Request, options: dict[str, Any], spec: dict[str, Any], bars: Bars
) -> Job:
    upload = bars.bar(request.model.name)
    spec = spec | {"model": secateur.models.upload(request.model, progress=upload).id}
    if request.data is not None:
        upload = bars.bar(request.data.name)
        data = secateur.datasets.upload(request.data, options, progress=upload)
        spec["dataset"] = data.id
    return secateur.jobs.submit(spec)


def _wait(job: Job, show: Any, request: Request, speaker: Speaker) -> Result:
    """The result; Ctrl-C cancels the job, a failed one leaves its log."""
    try:
        return job.wait(progress=show)
    except KeyboardInterrupt:
        cancel(job, speaker)
        raise typer.Exit(Code.INTERRUPTED) from None
    except (JobFailed, JobCancelled):
        folder = request.output
        if folder.suffix == ".keras":
            folder = folder.parent
        try:
            speaker.say(f"Its log: {job.download('log.txt', folder)}")
        except SecateurError:
            pass  # It had none yet.
        raise


def cancel(job: Job, speaker: Speaker) -> None:
    """What Ctrl-C does."""
    job.cancel()
    speaker.say(f"Cancelled job {job.id}.")


def _save(result: Result, output: Path) -> list[Path]:
    """The pruned model as the file that was named, or all files in the folder."""
    if output.suffix == ".keras":
        return [result.download("model.keras", output)]
    return [result.download(file.name, output) for file in result.artifacts()]


def _missed_goal(metrics: Metrics) -> str:
    target = metrics.target
    assert target is not None
    note = f" ({target.note})" if target.note else ""
    return (
        f"the goal was missed: {target.achieved:.4g} where {target.asked:.4g} was asked for, "
        f"{target.unit}{note}."
    )


def gates(metrics: Metrics, fail_drop: float | None, fail_below: float | None) -> list[str]:
    """Sentences about gates that the pruned model does not pass, on the test samples."""
    if fail_drop is None and fail_below is None:
        return []
    names = [name for name in by_interest(metrics.after.evaluation) if name != LOSS]
    if not names or names[0] in LOWER_IS_BETTER:
        return ["there is no accuracy to hold the gate against: give --data with class labels."]
    name = names[0]
    before, after = (state.evaluation[name].value for state in (metrics.before, metrics.after))
    if before is None or after is None:
        return [f"{name} is not a number, so no gate is passed."]
    missed = []
    # Differences of shares of a few hundred samples: a rounding error must not fail a build.
    if fail_drop is not None and 100 * (before - after) > fail_drop + 1e-9:
        missed.append(
            f"{100 * (before - after):.2f} points of {name} were lost, more than "
            f"--fail-drop {fail_drop:g}."
        )
    if fail_below is not None and after < fail_below:
        missed.append(f"{name} is {after:.4f}, below --fail-below {fail_below:g}.")
    return missed


def _spec(request: Request) -> dict[str, Any]:
    given = {name: value for name, value in request.goals.items() if value is not None}
    options = [f"--{name.replace('_', '-')}" for name in GOALS]
    if request.spec is not None:
        if given:
            raise typer.BadParameter("Give either one goal or a whole --spec, not both.")
        spec = read_json_file(request.spec, "--spec")
        if request.exports:
            spec["exports"] = ["keras", *(each for each in request.exports if each != "keras")]
        return spec
    if len(given) != 1:
        raise typer.BadParameter(
            f"Say what to prune: one of {', '.join(options)} (got {len(given)}), or a whole --spec."
        )
    trained = request.epochs if request.data is not None else None
    return towards(given, epochs=trained, exports=request.exports)
