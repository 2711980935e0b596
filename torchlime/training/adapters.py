"""Adapters: training libraries call the logger at the right moment."""

from collections.abc import Callable
from typing import Any

from torchlime.black_box import Model
from torchlime.training.logger import ExplanationLogger


class Hook:
    """Logs at every ``every``-th of its calls, the first included.

    It does not count a library's epochs and steps, because ``every`` might never divide them.
    """

    def __init__(self, logger: ExplanationLogger):
        super().__init__()
        self.logger = logger
        self.calls = 0

    def _called(self, model: Model, step: int) -> None:
        self.calls += 1
        if (self.calls - 1) % self.logger.every == 0:
            self.logger.log(model, step)


def ignite_handler(logger: ExplanationLogger, model: Model) -> Callable[[Any], None]:
    """A handler of events of PyTorch-Ignite's trainer.

    ``trainer.add_event_handler(Events.EPOCH_COMPLETED, ignite_handler(logger, model))``

    Convention:
        ``every`` counts the handler's calls from the first. The step of an entry is the trainer's
        iteration.
    """
    hook = Hook(logger)
    return lambda engine: hook._called(model, engine.state.iteration)


class Lightning(Hook):
    """A Lightning Callback that logs after validation, but not after the sanity check.

    The module is called as it is: its ``forward`` takes images and returns scores.

    Convention:
        ``every`` counts validations from the first. The step of an entry is the trainer's global
        step.
    """

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log, if it is time."""
        if not trainer.sanity_checking:
            self._called(pl_module, trainer.global_step)


class Transformers(Hook):
    """A transformers TrainerCallback that logs after evaluation.

    Convention:
        ``every`` counts evaluations from the first. The step of an entry is the trainer's global
        step.
    """

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log, if it is time."""
        self._called(kwargs["model"], state.global_step)


ADAPTERS: dict[str, tuple[type, str, str]] = {
    "LightningCallback": (Lightning, "lightning.pytorch", "Callback"),
    "TransformersCallback": (Transformers, "transformers", "TrainerCallback"),
}
