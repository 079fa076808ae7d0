"""What confines a job's process: told by that process itself, before it has touched an upload."""

from typing import Literal

from app.domain.base import Record

MechanismName = Literal["user", "landlock", "seccomp", "network"]
REQUIRED: tuple[MechanismName, ...] = ("user", "landlock", "seccomp")
"""Without any of these jobs are refused; a network of its own is an extra, since seccomp denies
sockets anyway."""
TITLES: dict[MechanismName, str] = {
    "user": "a user of its own",
    "landlock": "Landlock",
    "seccomp": "a seccomp filter",
    "network": "a network namespace of its own",
}


class Mechanism(Record):
    """One thing that confines."""

    active: bool = False
    detail: str = "not reported"
    """How, or why not."""


class Confinement(Record):
    """All mechanisms of one process."""

    user: Mechanism = Mechanism()
    """Another uid than the worker's, where that one is root; an ordinary user's is no privilege."""
    landlock: Mechanism = Mechanism()
    """Files by folder, TCP, signals and abstract sockets, as far as the kernel's version goes."""
    seccomp: Mechanism = Mechanism()
    """System calls."""
    network: Mechanism = Mechanism()
    """A network namespace with nothing in it."""
    overridden: bool = False
    """Something required is missing, and the operator's setting lets jobs run all the same."""

    @property
    def missing(self) -> tuple[MechanismName, ...]:
        """Required mechanisms that are not active."""
        return tuple(name for name in REQUIRED if not self.of(name).active)

    @property
    def sentence(self) -> str:
        """What confines and what does not, for people."""
        there = self._said(active=True)
        away = self._said(active=False)
        said = f"confined by {there}" if there else "not confined"
        if away:
            said += f"; without {away}"
        return said + ("; allowed by SECATEUR_ALLOW_UNCONFINED" if self.overridden else "")

    def _said(self, *, active: bool) -> str:
        found = [(title, self.of(name)) for name, title in TITLES.items()]
        return ", ".join(f"{title} ({one.detail})" for title, one in found if one.active is active)

    def of(self, name: MechanismName) -> Mechanism:
        """A mechanism by its name."""
        found = getattr(self, name)
        assert isinstance(found, Mechanism)
        return found
