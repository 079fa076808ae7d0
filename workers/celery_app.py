"""The Celery application of the workers. Its processes never import TensorFlow or Keras."""

import os
import tempfile
from pathlib import Path
from typing import Any

from celery import signals

from app.adapters.queue import TASK_NAME, celery_app
from app.domain.confinement import Confinement
from app.logs import configure
from app.settings import Settings
from workers.parent import DRAIN_PREFIX, sweep_folders
from workers.probe import probe
from workers.tasks import Doorway

settings = Settings()
app = celery_app(settings.broker_url, "secateur.workers")

# Set by the main process before its pool forks; the file appears when the worker shuts down.
_drain_file = Path(tempfile.gettempdir()) / f"{DRAIN_PREFIX}{os.getpid()}"
_doorway: Doorway | None = None
_confinement = Confinement()


@signals.setup_logging.connect
def _logging(**_: Any) -> None:
    configure(settings, "worker")


@signals.worker_process_init.connect
def _start(**_: Any) -> None:
    global _doorway
    _doorway = Doorway(settings, _drain_file.exists)
    _doorway.open(_confinement)


@signals.worker_process_shutdown.connect
def _stop(**_: Any) -> None:
    if _doorway is not None:
        _doorway.close()


@signals.worker_init.connect
def _begin(**_: Any) -> None:
    global _confinement
    # Process ids repeat in containers: a killed namesake's file would silence this worker.
    _drain_file.unlink(missing_ok=True)
    sweep_folders()
    # In the main process: Celery kills a pool process that takes seconds to start.
    _confinement = probe(settings)


@signals.worker_shutting_down.connect
def _drain(**_: Any) -> None:
    _drain_file.touch()


@signals.worker_shutdown.connect
def _forget(**_: Any) -> None:
    _drain_file.unlink(missing_ok=True)


@app.task(name=TASK_NAME, ignore_result=True)
def run_job(queue: str) -> None:
    """Claim and carry out the next job of a queue."""
    assert _doorway is not None
    _doorway.enter(queue)
