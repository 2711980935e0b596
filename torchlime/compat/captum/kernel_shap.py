"""Captum's KernelShap: Shapley values by weighted least squares."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from torchlime._precision import solve_dtype
from torchlime.compat.captum.arguments import Inputs
from torchlime.compat.captum.captums import KernelShapParent
from torchlime.compat.captum.drawing import (
    captums_shapley,
    example_seeds,
    in_captums_stream,
    shapley_categorical,
    shapley_sizes,
)
from torchlime.compat.captum.feature_masks import Columns
from torchlime.compat.captum.lime import Lime
from torchlime.compat.captum.linear_models import SkLearnLinearRegression, solver_of

WEIGHT_OF_ENDS = 1_000_000.0


class KernelShap(Lime, KernelShapParent):  # type: ignore[misc]
    """Shapley values of each example's features against fixed baselines.

    The first two samples show all features and none, with a weight of 10⁶. The others come from the
    distribution of KernelSHAP (Lundberg & Lee 2017) and weigh 1.

    Args:
        forward_func: the model, or any function of the inputs; it keeps its mode (call ``eval()``).
        rng, seed: as for :class:`torchlime.compat.captum.Lime`.

    Example:
        >>> shap = KernelShap(lambda x: 2 * x[:, 0] - x[:, 1] + x[:, 2], seed=0)
        >>> shap.attribute(torch.tensor([[2.0, 3.0, 1.0]]), n_samples=60).round(decimals=3).tolist()
        [[4.0, -3.0, 1.0]]
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        *,
        rng: str | None = None,
        seed: int | Tensor | None = None,
    ):
        Lime.__init__(
            self,
            forward_func,
            SkLearnLinearRegression(),
            self.kernel_shap_similarity_kernel,
            self.kernel_shap_perturb_generator,
            rng=rng,
            seed=seed,
        )
        self.inf_weight = WEIGHT_OF_ENDS

    def masks(self, columns: Columns, samples: int, batch: int, device: torch.device) -> Tensor:
        """The design [B,N,F] bool."""
        if self.rng == "captum":
            fits = solver_of(self.interpretable_model) is not None  # else they draw themselves
            return in_captums_stream(captums_shapley, batch, samples, columns.number, device, fits)
        count = torch.full((batch,), columns.number, device=device)
        seeds = example_seeds(self.seed, batch, device)
        return shapley_sizes(count, columns.number, samples, seed=seeds)

    def weights(
        self, inputs: Inputs, columns: Columns, design: Tensor, whole: bool = False
    ) -> Tensor:
        """The weights [B,N] of a design."""
        ends = design.all(dim=2) | ~design.any(dim=2)
        return torch.where(ends, self.inf_weight, 1.0).to(solve_dtype(design.device))

    def is_known(self) -> bool:
        """Whether design and weights are those of this class, so that they run as tensors."""
        kernel, draw = self.similarity_func, self.perturb_func
        return (
            self._transform_is_known()
            and getattr(kernel, "__func__", None) is KernelShap.kernel_shap_similarity_kernel
            and getattr(draw, "__func__", None) is KernelShap.kernel_shap_perturb_generator
        )

    def kwargs_of(self, inputs: Inputs, columns: Columns) -> dict[str, Any]:
        """What a subclass's own functions get beside a sample."""
        chosen = shapley_categorical(columns.number) if columns.number > 1 else None
        return super().kwargs_of(inputs, columns) | {"num_select_distribution": chosen}

    def kernel_shap_similarity_kernel(
        self, _: Any, __: Any, interpretable_sample: Tensor, **kwargs: Any
    ) -> Tensor:
        """The weight [1] of a sample [1,F]."""
        ends = (interpretable_sample != 0).all() | (interpretable_sample == 0).all()
        return torch.where(ends, self.inf_weight, 1.0).reshape(1)

    def kernel_shap_perturb_generator(self, original_inp: Any, **kwargs: Any) -> Iterator[Tensor]:
        """Samples [1,F] int64 without end, from torch's global CPU generator."""
        first = original_inp if isinstance(original_inp, Tensor) else original_inp[0]
        number = kwargs["num_interp_features"]
        yield torch.ones(1, number, dtype=torch.int64, device=first.device)
        yield torch.zeros(1, number, dtype=torch.int64, device=first.device)
        while True:
            yield captums_shapley(3, number)[2:].long().to(first.device)
