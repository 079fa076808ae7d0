"""Metrics of a LiteRT file, run by LiteRT itself: what quantisation costs."""

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from app.domain.errors import EngineRefusal
from app.domain.metrics import MetricValue
from workers.evaluation.evaluate import scored
from workers.measure.latency import cores, match
from workers.training.data import Samples
from workers.training.objective import Objective

Array = NDArray[Any]
BATCH = 64


def evaluate_file(file: Path, samples: Samples, objective: Objective) -> dict[str, MetricValue]:
    """Loss and metrics by name, as `evaluate` has them of the Keras model.

    Raises:
        ValueError, RuntimeError: LiteRT cannot run the file on these samples.
    """
    return scored(outputs(file, samples.inputs, cores()), samples, objective)


def outputs(file: Path, inputs: dict[str, Array], threads: int = 1) -> list[Array]:
    """What a file makes of samples, one array per output, in the model's order.

    Args:
        file: as `workers.exports` writes it.
        inputs: by the model's input name, samples first.
        threads: of the interpreter.
    """
    interpreter = Interpreter(model_path=str(file), num_threads=threads)
    count = len(next(iter(inputs.values())))
    found: list[list[Array]] = []
    size = None
    for start in range(0, count, BATCH):
        batch = {name: values[start : start + BATCH] for name, values in inputs.items()}
        wanted = [(detail, match(detail, batch)) for detail in interpreter.get_input_details()]
        if size != len(wanted[0][1]):
            size = len(wanted[0][1])
            for detail, values in wanted:
                interpreter.resize_tensor_input(detail["index"], values.shape)
            interpreter.allocate_tensors()
        for detail, values in wanted:
            interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
        interpreter.invoke()
        found.append([interpreter.get_tensor(index) for index in _places(interpreter)])
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def ensure_runs(file: Path, inputs: dict[str, Array], expected: list[Array]) -> None:
    """Run a file once, before it is offered.

    Args:
        file: as `workers.exports` writes it.
        inputs: by the model's input name.
        expected: the model's outputs for them.

    Raises:
        EngineRefusal: LiteRT cannot run it, or what it puts out has another shape, or is no number
            where the model's outputs are.
    """
    try:
        received = outputs(file, inputs)
    except (ValueError, RuntimeError) as error:
        raise EngineRefusal(
            f"{file.name} was written, but LiteRT cannot run it: {str(error)[:500]} Leave this "
            "format out of exports.",
            field="exports",
        ) from error
    told, shapes = [each.shape for each in received], [each.shape for each in expected]
    if told != shapes or not all(
        np.isfinite(mine[np.isfinite(theirs)]).all()
        for mine, theirs in zip(received, expected, strict=True)
    ):
        raise EngineRefusal(
            f"{file.name} was written, but on random inputs it puts out shapes {told}, where the "
            f"model has {shapes}, or values that are no numbers. It is not handed out. Leave this "
            "format out of exports.",
            field="exports",
        )


def _places(interpreter: Any) -> list[int]:
    """Tensors of the outputs in the model's order, whatever order the file lists them in.

    The signature names them `output_0`, `output_1`, …; where the model answers by name, by these
    names, which Keras puts in alphabetical order.
    """
    named = interpreter.get_signature_runner().get_output_details()

    def place(name: str) -> tuple[int, str]:
        number = name.removeprefix("output_")
        return (int(number) if number.isdigit() else 0, name)

    return [int(named[name]["index"]) for name in sorted(named, key=place)]
