"""The `secateur` command."""

import os
import signal
import socket
import sys
import tempfile
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app import admin_command, command_line, doctor_command, job_commands, keys_command
from app.domain.errors import SecateurError
from app.settings import Settings

cli = typer.Typer(
    help="Pruning as a service for Keras models.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

cli.add_typer(keys_command.cli, name="keys")
cli.command("audit")(keys_command.audit)
cli.add_typer(admin_command.cli, name="admin")
cli.command("doctor")(doctor_command.doctor)

NO_KEYS = (
    "secateur: requests to {host} need an API key, and there is none yet, so all are refused. Make "
    "one, with the same data folder or SECATEUR_DATABASE_URL: secateur keys create --owner NAME. "
    "SECATEUR_REQUIRE_KEYS=never asks for none; use it only where people you trust alone can "
    "reach the service."
)
LONGEST_DATA_DIR = 400
"""SQLite's limit for a path is 512 bytes."""

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder for everything that is kept [SECATEUR_DATA_DIR]."),
]


def _settings(data_dir: Path | None = None) -> Settings:
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = error.errors()[0]
        name = "SECATEUR_" + ".".join(map(str, wrong["loc"])).upper()
        # An address may hold a password.
        got = "" if name.endswith("_URL") else f"; got {wrong['input']!r}"
        said = wrong["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(f"{name}: {said}{got}.") from error
    return settings if data_dir is None else settings.model_copy(update={"data_dir": data_dir})


def _prepare(data_dir: Path) -> None:
    """The data folder exists and can be written, or a sentence says why not."""
    if len(str(data_dir.absolute())) > LONGEST_DATA_DIR:
        raise typer.BadParameter(
            f"The path of the data folder is longer than {LONGEST_DATA_DIR} characters, which "
            "SQLite cannot open. Name a shorter one with --data-dir."
        )
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data_dir):
            pass
    except OSError as error:
        raise typer.BadParameter(
            f"{data_dir.absolute()} cannot be used as the data folder: {error.strerror}. Name "
            "another with --data-dir."
        ) from error


def _environment(settings: Settings) -> dict[str, str]:
    """What the service's own processes must agree on."""
    return {
        "SECATEUR_DATA_DIR": str(settings.data_dir.absolute()),
        "SECATEUR_BROKER_URL": settings.broker_url,
        "SECATEUR_DATABASE_URL": settings.effective_database_url,
    }


def _version(asked: bool) -> None:
    if asked:
        print(f"secateur {version('secateur')}")
        raise typer.Exit


@cli.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it and exit.")
    ] = False,
) -> None:
    """Pruning as a service for Keras models."""


@cli.command()
def serve(host: Host = "127.0.0.1", port: Port = 8000, data_dir: DataDir = None) -> None:
    """Run the whole service: API, workers, reaper, and a broker unless one is named."""
    from app import embedded
    from app.adapters.database import migrate
    from app.logs import configure

    settings = _settings(data_dir)
    configure(settings)
    _prepare(settings.data_dir)
    listener = _listen(host, port)
    with embedded.folder_lock(settings.data_dir):
        migrate(settings.effective_database_url)
        broker = None if settings.broker_url else embedded.Broker(settings.data_dir)
        if broker is not None:
            settings = settings.model_copy(update={"broker_url": broker.url})
        environment = _environment(settings)
        workers = [embedded.worker_part(queue, environment) for queue in ("jobs", "quick")]
        with embedded.Parts(broker, workers):
            _serve_api(settings, listener, reaper=True)


@cli.command()
def api(host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Run only the API; workers, reaper, broker and database run elsewhere."""
    from app.logs import configure

    settings = _settings()
    configure(settings)
    _require_broker(settings)
    _serve_api(settings, _listen(host, port), reaper=False)


@cli.command()
def worker(
    queue: Annotated[
        list[str] | None,
        typer.Option(
            help="jobs, quick (dry runs, analyses), gpu or large (jobs that need one, or more "
            "memory); more than once for several. By default jobs and quick "
            "[SECATEUR_WORKER_QUEUES]."
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Jobs at the same time.")] = 1,
) -> None:
    """Run a worker. Needs the worker's packages (pip install 'secateur[worker]')."""
    from app.adapters.database import migrate

    if queue:
        os.environ["SECATEUR_WORKER_QUEUES"] = " ".join(queue)
    settings = _settings()
    _require_broker(settings)
    migrate(settings.effective_database_url)
    served = settings.served_queues
    # A Celery worker takes its process over; signals, pools and draining are its own.
    os.execv(
        sys.executable,
        [
            sys.executable,
            "-m",
            "celery",
            "--app=workers.celery_app",
            "--quiet",
            "worker",
            f"--queues={','.join(served)}",
            f"--concurrency={concurrency}",
            f"--hostname={'-'.join(served)}-{os.getpid()}@%h",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=INFO",
        ],
    )


@cli.command()
def reaper() -> None:
    """Run only the reaper, which brings back lost jobs; several may run."""
    from app.adapters.database import migrate
    from app.logs import configure
    from app.observe import traces

    settings = _settings()
    configure(settings, "reaper")
    _require_broker(settings)
    migrate(settings.effective_database_url)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    traces.begin("reaper")
    _reaper(settings).run(stop)
    traces.end()


@cli.command()
def migrate_database() -> None:
    """Create or upgrade the database's tables."""
    from app.adapters.database import migrate

    migrate(_settings().effective_database_url)


@cli.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for models, data and results.")] = Path(
        "demo-out"
    ),
) -> None:
    """Train, upload, prune, download and check small models on real digits."""
    from rich.console import Console

    from app import demo as demonstration

    if not demonstration.run(out, Console()):
        raise typer.Exit(1)


@cli.command()
def prune(
    model: command_line.ModelFile,
    data: command_line.Data = None,
    data_options: command_line.DataOptions = "{}",
    sparsity: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the weights to set to zero."),
    ] = None,
    units: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the Dense units to remove."),
    ] = None,
    channels: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of all channels to remove."),
    ] = None,
    macs: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the MACs to keep.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0, max=100, help="As small as possible; lose at most so many points of accuracy."
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(min=0, help="Epochs of fine-tuning, with data; 0 only measures.")
    ] = 10,
    export: Annotated[
        list[str] | None,
        typer.Option(help="File beside the Keras model: litert, onnx, …; more than once."),
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A spec as JSON, instead of a goal."),
    ] = None,
    fail_drop: Annotated[
        float | None,
        typer.Option(help="Exit with 3 where more points of accuracy than this are lost."),
    ] = None,
    fail_below: Annotated[
        float | None,
        typer.Option(help="Exit with 3 where the pruned model's accuracy is below this share."),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder for all files, or a name in .keras for the model alone."
        ),
    ] = Path("pruned"),
    detach: command_line.Detach = False,
    as_json: command_line.Json = False,
    server: command_line.Server = None,
    key: command_line.Key = None,
) -> None:
    """Prune a model, on a service that is named or on one that is started for it.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 goal or gate not reached, 4 no service,
    5 cancelled, 130 interrupted (the job is cancelled).
    """
    from app import prune_command as command

    command_line.check_detach(detach, server)
    request = command.Request(
        model=model,
        data=data,
        data_options=data_options,
        goals={
            "sparsity": sparsity,
            "units": units,
            "channels": channels,
            "macs": macs,
            "max_drop": max_drop,
        },
        epochs=epochs,
        exports=tuple(export or ()),
        spec=spec,
        output=output,
        fail_drop=fail_drop,
        fail_below=fail_below,
        detach=detach,
    )
    with command_line.speaking(as_json) as speaker:
        raise typer.Exit(command.run(request, server, key, speaker))


@cli.command()
def sweep(
    model: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, help="A .keras or .h5 file."),
    ] = None,
    data: command_line.Data = None,
    data_options: command_line.DataOptions = "{}",
    grid: Annotated[
        list[str] | None,
        typer.Option(help="Field and values: prune.target.remove=0.5,0.9; more than once."),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The spec that the grid varies, as JSON."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=0, help="Epochs of fine-tuning; 0 trains nothing.")
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A sweep as JSON, instead of a grid."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the table, the plot and the best models."),
    ] = None,
    detach: command_line.Detach = False,
    as_json: command_line.Json = False,
    server: command_line.Server = None,
    key: command_line.Key = None,
) -> None:
    """Try many specs on a model, and compare what they come to."""
    from app import sweep_command as command

    command_line.check_detach(detach, server)
    request = command.Request(
        model=model,
        data=data,
        data_options=data_options,
        grid=tuple(grid or ()),
        base=base,
        epochs=epochs,
        spec=spec,
        output=output,
        detach=detach,
    )
    with command_line.speaking(as_json) as speaker:
        raise typer.Exit(command.run(request, server, key, speaker))


for _command in (job_commands.jobs, job_commands.logs, job_commands.download, job_commands.cancel):
    cli.command()(_command)
cli.command()(job_commands.analyse)


def _require_broker(settings: Settings) -> None:
    if not settings.broker_url:
        raise typer.BadParameter(
            "SECATEUR_BROKER_URL is not set. Name the Redis or Valkey that the API and the "
            "workers share, for example redis://redis:6379/0; or run `secateur serve`, which "
            "brings its own."
        )


def _reaper(settings: Settings) -> Any:
    from app.adapters.database import Database, Limits
    from app.adapters.queue import CeleryQueue
    from app.adapters.stores import open_store
    from app.services.dispatch import Reaper

    return Reaper(
        Database(settings.effective_database_url, Limits.model_validate(settings.database_limits)),
        open_store(settings),
        CeleryQueue(settings.broker_url),
        settings,
    )


def _serve_api(settings: Settings, listener: socket.socket, *, reaper: bool) -> None:
    from app.main import create_app
    from app.server import Server

    address = listener.getsockname()
    settings = _guard(settings, address[0])
    name = f"[{address[0]}]" if ":" in address[0] else address[0]
    server = Server(
        create_app(settings),
        f"Secateur is ready at http://{name}:{address[1]} (Swagger UI: /docs)",
        settings,
    )
    stop = threading.Event()
    thread = None
    if reaper:
        thread = threading.Thread(target=_reaper(settings).run, args=(stop,), name="reaper")
        thread.start()
    try:
        server.run(sockets=[listener])
    finally:
        stop.set()
        if thread is not None:
            thread.join()


def _guard(settings: Settings, host: str) -> Settings:
    """Ask for keys where others can reach the service, and say so while there is none."""
    from app.adapters.database import Database, migrate
    from app.api.access import is_loopback
    from app.services.keys import Keys

    if settings.require_keys == "auto" and not is_loopback(host):
        settings = settings.model_copy(update={"require_keys": "always"})
    if settings.require_keys == "always":
        migrate(settings.effective_database_url)
        database = Database(settings.effective_database_url)
        if not Keys(database).there_are_any():
            print(NO_KEYS.format(host=host), file=sys.stderr, flush=True)
        database.close()
    return settings


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        raise typer.BadParameter(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another --port (0 takes a "
            "free one), or an address of this machine as --host."
        ) from error
    listener.listen(2048)
    return listener


def main() -> None:
    """Entry point."""
    try:
        cli()
    except SecateurError as error:
        print(f"secateur: {error.detail}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
