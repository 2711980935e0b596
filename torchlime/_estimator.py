"""An estimator of scikit-learn as a model of torch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from torchlime._precision import solve_dtype


class Estimator:
    """Tensors [n,…] → scores [n,classes] or [n], by ``predict_proba``, else ``predict``.

    The estimator runs on the host, so every chunk on another device waits.

    Args:
        estimator: an estimator of scikit-learn, one with its methods, or such a method.
        table: what it takes, from a tensor; None = an array [n,F].

    Raises:
        TypeError: the object is not such an estimator, or it predicts classes only.
    """

    @staticmethod
    def is_one(model: Any) -> bool:
        """Whether a model is no function, or is a method of an estimator, such as its predict."""
        owner = getattr(model, "__self__", None)
        is_method = hasattr(owner, "predict") and not isinstance(owner, nn.Module)
        return is_method or not callable(model)

    def __init__(self, estimator: Any, table: Callable[[Tensor], Any] | None = None):
        self.table = table or _array
        if callable(estimator):  # a method
            self._take(estimator.__self__, estimator.__name__)
            return
        if not hasattr(estimator, "predict"):
            raise TypeError(
                f"model must be callable, or an estimator with predict, got {estimator!r}"
            )
        if hasattr(estimator, "classes_") and not hasattr(estimator, "predict_proba"):
            raise TypeError(
                f"{type(estimator).__name__} predicts classes and has no predict_proba: wrap it in "
                "a function of its decision_function"
            )
        name = "predict_proba" if hasattr(estimator, "predict_proba") else "predict"
        self._take(estimator, name)

    def _take(self, estimator: Any, name: str) -> None:
        self.function = getattr(estimator, name)
        self.name = f"{name} of {type(estimator).__name__}"
        self.unit = "probability" if name == "predict_proba" else "score"
        self.categories = [str(name) for name in getattr(estimator, "classes_", ())]

    def __call__(self, x: Tensor) -> Tensor:
        """The scores of rows ``x``."""
        return as_scores(self.function(self.table(x)), self.name, x)


def as_scores(scores: Any, source: str, x: Tensor) -> Tensor:
    """What a function of the host returned, as a float tensor on the device of ``x``.

    Raises:
        TypeError: it is not numbers.
    """
    import numpy as np

    found = np.asarray(scores)
    if found.dtype.kind not in "fiu":
        raise TypeError(f"{source} must return numbers, got {found.dtype}")
    # A copy in the machine's byte order, which may be written to.
    tensor = torch.from_numpy(found.astype(found.dtype.newbyteorder("="))).to(x.device)
    return tensor if tensor.is_floating_point() else tensor.to(solve_dtype(x.device))


def _array(x: Tensor) -> Any:
    return x.flatten(1).cpu().numpy()  # an estimator is on the host
