"""Fine-tuning between cuts: one epoch at a time, masks held, the best weights kept.

Each epoch is seeded by the job's seed and its own number, so that a resumed job shuffles as an
uninterrupted one would.
"""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from app.domain.criteria import VariationalDropoutCriterion
from app.domain.errors import InternalError, JobError
from app.domain.metrics import EpochFigure
from app.domain.recovery import FineTune
from workers.engine import constrain, count, unconstrain
from workers.engine.graph import variable_keys
from workers.training.data import Data
from workers.training.objective import Objective
from workers.training.optimizers import make_optimizer
from workers.training.precision import mixed
from workers.training.state import JobState
from workers.training.statistics import reestimate_statistics
from workers.training.teaching import Teacher, taught_targets, wrapped
from workers.training.variational import Noisy, price, speed
from workers.training.weighting import balanced

MOST_BATCHES = 32
MACS_PER_CALL = 8e9
"""Forward; about half a second of training on two cores, so that progress is told that often."""

OnBatch = Callable[[int, float, dict[str, float]], None]
"""Told after a batch: epoch of the step, share of the epoch, metrics so far."""
OnEpoch = Callable[[EpochFigure], None]


class Diverged(JobError):
    """The loss became infinite or no number."""

    slug = "diverged"
    title = "Fine-tuning diverged"
    fault = "client"


class _Batches(keras.callbacks.Callback):  # type: ignore[misc]
    """Passes batches on."""

    def __init__(self, epoch: int, tell: OnBatch) -> None:
        super().__init__()
        self._epoch = epoch
        self._tell = tell
        self._told = 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        # Reading the logs synchronises with the device: not after every batch.
        if time.monotonic() - self._told > 0.5:
            self._told = time.monotonic()
            steps = self.params.get("steps") or batch + 1
            self._tell(self._epoch, (batch + 1) / steps, _numbers(logs))


def _numbers(logs: dict[str, Any] | None) -> dict[str, float]:
    return {name: float(value) for name, value in (logs or {}).items()}


class FineTuner:
    """Trains `state.model` for one step of the schedule, from wherever the state is."""

    def __init__(
        self,
        state: JobState,
        data: Data,
        objective: Objective,
        spec: FineTune,
        seed: int,
        on_batch: OnBatch,
        on_epoch: OnEpoch,
        teacher: Teacher | None = None,
        learning: VariationalDropoutCriterion | None = None,
    ) -> None:
        """`teacher`: for distillation, which there is none of without; `learning`: how the noise is
        learned, where it is.
        """
        self.state = state
        self.data = data
        self.objective = objective
        self.spec = spec if teacher else spec.model_copy(update={"distillation": None})
        self.seed = seed
        self.on_batch = on_batch
        self.on_epoch = on_epoch
        self.teacher = teacher
        self.learning = learning

    def train(self, epochs: int, *, final: bool) -> None:
        """Train up to `epochs` of this step; `final` stops early and keeps the best weights.

        Before that, criterion variational_dropout trains with noise, and the targets alone teach:
        its loss is a likelihood.

        Raises:
            Diverged: the loss is no number any more.
        """
        state, model = self.state, self.state.model
        batches = -(-self.data.train.count // self.spec.batch_size)
        optimizer = make_optimizer(self.spec, batches, epochs)
        noisy = None if final or self.learning is None else self._noisy(self.learning, batches)
        plain = {"distillation": None, "mixed_precision": False}
        spec = self.spec.model_copy(update=plain) if noisy else self.spec
        trained = wrapped(noisy or model, self.objective, spec, self.teacher)
        together = batches_per_call(count(model).macs, self.spec.batch_size, batches)
        self.objective.compile(trained, optimizer, self.spec.label_smoothing, together)
        optimizer.build(trained.trainable_variables)
        if state.optimizer is not None:
            _assign(optimizer.variables, state.optimizer)
        constrain(model, state.masks)
        stopping = self.spec.early_stopping if final else None
        try:
            if state.epoch_in_step == 0:
                reestimate_statistics(model, self.data.train, self.spec.batch_size, self.seed)
            if stopping is not None and state.epoch_in_step == 0:
                # The cut itself is a candidate: fine-tuning must not end worse than it began.
                self._consider(self._validate(trained), 0.0)
            while state.epoch_in_step < epochs:
                if stopping is not None and state.patience_used >= stopping.patience:
                    break
                if noisy is not None and self.learning is not None:
                    noisy.price.assign(price(self.learning, state.epochs_done))
                logs = self._epoch(trained, spec)
                if noisy is not None:
                    state.log_variances = noisy.log_variances
                if stopping is not None:
                    self._consider(logs["val_loss"], stopping.min_delta)
                state.optimizer = [np.asarray(variable) for variable in optimizer.variables]
                self.on_epoch(state.history[-1])
            if stopping is not None and state.best_weights is not None:
                model.set_weights(state.best_weights)
        finally:
            unconstrain(model)
        self._check_masks()
        state.optimizer = state.best_weights = None
        state.best_loss, state.patience_used, state.epoch_in_step = float("inf"), 0, 0

    def _noisy(self, learning: VariationalDropoutCriterion, batches: int) -> Noisy:
        state, train = self.state, self.data.train
        scale = 1.0 if state.loss_scale is None else state.loss_scale
        updates = batches * learning.epochs
        noisy = Noisy(
            state.model, train.count, scale, speed(self.spec.optimizer.learning_rate, updates)
        )
        if state.log_variances:
            noisy.restore(state.log_variances)
        return noisy

    def _epoch(self, trained: Any, spec: FineTune) -> dict[str, float]:
        state, train = self.state, self.data.train
        # Seeds of neighbouring jobs must not meet: epochs are spread by a hash, not by a sum.
        seeds = np.random.SeedSequence([self.seed, state.step, state.epoch_in_step])
        keras.utils.set_random_seed(int(seeds.generate_state(1)[0]))
        _seed_layers(trained, seeds.spawn(1)[0])
        started = time.perf_counter()
        # Epoch by epoch, so that checkpoints between them hold the model's own precision.
        with mixed(state.model, spec.mixed_precision):
            fitted = trained.fit(
                train.x,
                taught_targets(train, spec, self.teacher),
                sample_weight=balanced(train) if spec.class_weights else None,
                batch_size=spec.batch_size,
                epochs=1,
                validation_data=(self.data.validation.x, self.data.validation.y),
                validation_batch_size=max(spec.batch_size, 256),
                callbacks=[_Batches(state.epoch_in_step, self.on_batch)],
                verbose=0,
            )
        logs = _numbers({name: values[-1] for name, values in fitted.history.items()})
        if not np.isfinite(logs["loss"]):
            raise Diverged(
                f"The loss became {logs['loss']} in epoch {state.epochs_done + 1}. Use a smaller "
                f"learning_rate than {self.spec.optimizer.learning_rate:g}, or check that the "
                "inputs are scaled as the model was trained (options.scale of the data set)."
            )
        state.epoch_in_step += 1
        state.epochs_done += 1
        state.history.append(
            EpochFigure(
                epoch=state.epochs_done,
                step=state.step,
                seconds=round(time.perf_counter() - started, 4),
                logs=logs,
            )
        )
        return logs

    def _validate(self, trained: Any) -> float:
        samples = self.data.validation
        logs = trained.evaluate(
            samples.x,
            samples.y,
            batch_size=max(self.spec.batch_size, 256),
            verbose=0,
            return_dict=True,
        )
        return float(logs["loss"])

    def _consider(self, loss: float, min_delta: float) -> None:
        state = self.state
        if state.best_weights is None or loss < state.best_loss - min_delta:
            state.best_loss = loss
            state.best_weights = [np.array(value) for value in state.model.get_weights()]
            state.patience_used = 0
        else:
            state.patience_used += 1

    def _check_masks(self) -> None:
        """A pruned weight that came back would make the reported sparsity a lie."""
        keys = variable_keys(self.state.model)
        for key, mask in self.state.masks.items():
            value = keras.ops.convert_to_numpy(keys[key])
            if np.any(value[~mask]):
                raise InternalError(f"A pruned weight of {key} is not zero after fine-tuning.")


def batches_per_call(macs: int, batch_size: int, batches: int) -> int:
    """How many batches to train before coming back to Python, which takes longer than a small one.

    What is computed stays the same: order, batches and updates.

    Args:
        macs: of one sample, forward.
        batch_size: samples.
        batches: of an epoch.
    """
    affordable = int(MACS_PER_CALL / max(1, macs * batch_size))
    return max(1, min(MOST_BATCHES, batches, affordable))


def _seed_layers(model: Any, seeds: np.random.SeedSequence) -> None:
    """Give each layer that draws random numbers a state of its own: files do not keep them."""
    generators = [one for layer in model._flatten_layers() for one in layer._seed_generators]
    for generator, seed in zip(generators, seeds.generate_state(len(generators)), strict=True):
        generator.state.assign(np.array([seed, 0]))


def _assign(variables: list[Any], values: list[Any]) -> None:
    if len(variables) != len(values):
        raise InternalError(
            f"The checkpoint's optimizer has {len(values)} variables, this one {len(variables)}."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
