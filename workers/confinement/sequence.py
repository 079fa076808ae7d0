"""Which mechanism comes when, and why.

`enter`, with one thread, before TensorFlow is imported:

1. limits and descriptors, while they can still be set freely;
2. the network namespace, which takes root's privilege, or a user namespace and one thread;
3. the user, dropped for good (capabilities belong to threads: later ones inherit the loss);
4. no new privileges, death with the parent (forgotten by the kernel at the change of user),
   memory hidden;
5. Landlock, which covers this thread and those that it starts: TensorFlow's.

`seal`, after the import and before the order is read:

6. seccomp, which can be given to all threads at once, and would be in the way of the import.
"""

import os
from pathlib import Path

from app.confinement import landlock, seccomp
from app.confinement.kernel import LINUX
from app.confinement.network import leave_network
from app.confinement.process import die_with_parent, hide_memory, no_new_privileges
from app.confinement.user import drop_user
from app.domain.base import Record
from app.domain.confinement import Confinement, Mechanism
from workers.confinement import paths
from workers.confinement.environment import clear_environment
from workers.confinement.limits import Limits, close_descriptors, limit_resources


class Confines(Record):
    """What the parent tells a child about its confinement."""

    limits: Limits
    folder: str
    """The job's own, absolute; with `out` and `scratch`."""
    parent: int
    """Process id of whoever started the child, and must outlive it."""
    user: int | None = None
    """Uid and gid to become, to whom `out` and `scratch` belong; None where the worker is no
    root."""


def enter(confines: Confines) -> Confinement:
    """All but seccomp. Raises `RuntimeError` where there is more than one thread already."""
    die_with_parent(confines.parent)
    close_descriptors()
    clear_environment()
    limit_resources(confines.limits)
    _require_one_thread()
    folder = Path(confines.folder).resolve()
    network = leave_network()
    user = drop_user(confines.user, (*paths.code(), folder, *paths.writable(folder)))
    if LINUX:
        no_new_privileges()
        hide_memory()
    die_with_parent(confines.parent)
    return Confinement(
        user=user,
        landlock=landlock.apply(
            paths.readable(folder), paths.writable(folder), paths.accelerators()
        ),
        seccomp=Mechanism(detail="not yet"),
        network=network,
    )


def seal(entered: Confinement) -> Confinement:
    """The rest; from here on uploads may be touched."""
    return entered.model_copy(update={"seccomp": seccomp.apply()})


def _require_one_thread() -> None:
    if LINUX and len(os.listdir("/proc/self/task")) != 1:
        raise RuntimeError("a job's process must be confined before it starts threads")
