"""An estimator of scikit-learn as a model of torch."""

from typing import Any

import torch
from torch import Tensor

from torchlime._precision import solve_dtype


class Estimator:
    """Tensors [n,…] → scores [n,classes] or [n], by ``predict_proba``, else ``predict``.

    The estimator runs on the host, so every chunk on another device waits.

    Raises:
        TypeError: the object is not such an estimator, or it predicts classes only.
    """

    def __init__(self, estimator: Any):
        if not hasattr(estimator, "predict"):
            raise TypeError(
                f"model must be callable, or an estimator with predict, got {estimator!r}"
            )
        if hasattr(estimator, "classes_") and not hasattr(estimator, "predict_proba"):
            raise TypeError(
                f"{type(estimator).__name__} predicts classes and has no predict_proba: wrap it in "
                "a function of its decision_function"
            )
        self.name = "predict_proba" if hasattr(estimator, "predict_proba") else "predict"
        self.estimator = estimator
        self.unit = "probability" if self.name == "predict_proba" else "score"
        self.categories = [str(name) for name in getattr(estimator, "classes_", ())]

    def __call__(self, x: Tensor) -> Tensor:
        """The scores of rows ``x``."""
        import numpy as np

        rows = x.flatten(1).cpu().numpy()  # an estimator is on the host
        scores = np.asarray(getattr(self.estimator, self.name)(rows))
        if scores.dtype.kind not in "fiu":
            raise TypeError(
                f"{self.name} of {type(self.estimator).__name__} must return numbers, got "
                f"{scores.dtype}"
            )
        found = torch.from_numpy(scores).to(x.device)
        return found if found.is_floating_point() else found.to(solve_dtype(x.device))
