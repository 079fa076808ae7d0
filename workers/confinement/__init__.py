"""What confines a job's process, from within: each mechanism in a module of its own.

`enter` is called while the process has one thread, before TensorFlow is imported; `seal` after
that import and before the order is read. See `workers.confinement.sequence` for the order and why.
"""

from workers.confinement.environment import environment
from workers.confinement.limits import Limits
from workers.confinement.sequence import Confines, enter, seal

__all__ = ["Confines", "Limits", "enter", "environment", "seal"]
