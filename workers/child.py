"""A job's own process: made for one order, and gone after it.

It confines itself, says `ready` on standard output, reads one order from standard input, carries it
out. Standard error is the job's log. Mostly it is a copy of `workers.template`, which has imported
TensorFlow; `python -m workers.child '<Confines as JSON>'` imports it itself, confined already.
"""

import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, NoReturn

from workers.confinement import Confines, enter, seal

if TYPE_CHECKING:
    from app.domain.job import Order
    from workers.protocol import Reporter

    Work = Callable[[Order, Reporter], tuple[dict[str, Any], list[str]]]

PROGRAM = (sys.executable, "-I", "-m", "workers.child")
"""Isolated: neither the environment nor the current folder adds modules."""
EXIT_AFTER_REFUSAL = 3
UNUSED = ("IPython", "jax", "matplotlib.pyplot", "pandas", "sklearn")
"""What Keras and TensorFlow import wherever it is installed, for things that no job asks of them.

Of an environment that has them all they took a third of the time to start, and 200 MiB.
"""


def main(loads: "Callable[[], Work] | None" = None) -> int:
    """Live the life of a job's process; the exit status is 0 when the order was carried out.

    Args:
        loads: imports what carries out orders, and answers it; TensorFlow's by default.
    """
    return live(Confines.model_validate_json(sys.argv[1]), loads or load)


def live(confines: Confines, loads: "Callable[[], Work]") -> int:
    """The same, confined so."""
    entered = enter(confines)
    pipe = _pipe()
    work = loads()
    from workers.protocol import Ready, Reporter

    confinement = seal(entered)
    _log(confinement.sentence)
    reporter = Reporter(pipe)
    reporter.send(Ready(confinement=confinement))
    line = sys.stdin.readline()
    if not line:
        return 0
    return _carry_out(line, work, reporter, confines)


def _pipe() -> IO[str]:
    """The pipe to the parent, moved away from descriptor 1, where libraries may print."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


def load() -> "Work":
    """Import what carries out orders, which takes seconds."""
    # An import of a module that is None fails as that of one which is not installed.
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(UNUSED))
    from workers.run import run

    return run


def _carry_out(line: str, work: "Work", reporter: "Reporter", confines: Confines) -> int:
    from app.domain.errors import SecateurError
    from app.domain.job import Order
    from workers.endings import from_exception
    from workers.protocol import Done, Refused, finite

    order = Order.model_validate_json(line)
    _log(f"job {order.job}, attempt {order.attempt}")
    try:
        result, files = work(order, reporter)
    except SecateurError as error:
        _log(f"refused: {error.detail}")
        reporter.send(Refused.model_validate({"problem": error.as_problem()}))
        return EXIT_AFTER_REFUSAL
    except Exception as error:
        traceback.print_exc()
        problem = from_exception(error, confines.limits).as_problem()
        reporter.send(Refused.model_validate({"problem": problem}))
        return EXIT_AFTER_REFUSAL
    _log("done")
    reporter.send(Done(result=finite(result), files=tuple(files)))
    return 0


def _log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def leave(status: int) -> NoReturn:
    """End at once: shutting interpreter and TensorFlow down takes a second and can hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
