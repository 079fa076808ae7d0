"""A job's own process: started before it is needed, given one order, and gone after it.

`python -m workers.child '<limits as JSON>'`: imports TensorFlow, says `ready` on standard output,
reads one order from standard input, carries it out. Standard error is the job's log.
"""

import os
import re
import sys
import time
import traceback

from workers.confine import Limits, die_with_parent, limit_resources

EXIT_AFTER_REFUSAL = 3
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
"""Keras colours its messages."""


def main() -> int:
    """Live the life of a job's process; the exit status is 0 when the order was carried out."""
    die_with_parent()
    # The pipe to the parent moves away from descriptor 1, where libraries may print.
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    limit_resources(Limits.model_validate_json(sys.argv[1]))

    from app.domain.errors import InternalError, OutOfMemory, SecateurError
    from app.domain.job import Order
    from workers.protocol import Done, Ready, Refused, Reporter, finite
    from workers.run import run

    reporter = Reporter(pipe)
    reporter.send(Ready())
    line = sys.stdin.readline()
    if not line:
        return 0
    order = Order.model_validate_json(line)
    _log(f"job {order.job}, attempt {order.attempt}")
    try:
        result, files = run(order, reporter)
    except SecateurError as error:
        _log(f"refused: {error.detail}")
        reporter.send(Refused(problem=error.as_problem()))
        return EXIT_AFTER_REFUSAL
    except Exception as error:
        traceback.print_exc()
        if _is_out_of_memory(error):
            problem = OutOfMemory(
                "The job needs more memory than a job may use on this service; a smaller "
                "batch_size, or a smaller model, may fit."
            ).as_problem()
        else:
            problem = InternalError(
                f"{type(error).__name__}: {ESCAPES.sub('', str(error))[:2000]}. The artifact "
                "log.txt has the rest."
            ).as_problem()
        reporter.send(Refused(problem=problem))
        return EXIT_AFTER_REFUSAL
    _log("done")
    reporter.send(Done(result=finite(result), files=tuple(files)))
    return 0


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"


def _log(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    status = main()
    # Interpreter and TensorFlow shutdown take a second and can hang; everything is written.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
