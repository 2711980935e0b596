"""From a design to an explanation, whatever its columns stand for: segments, or features.

design → inputs → predictions → weights → coefficients → explanation

Nothing here knows of images, and nothing reads a tensor back to the host.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from torchlime._checks import check_count, device_of
from torchlime.explanation import Explanation, Problem, fitted, flag, weigh
from torchlime.networks import module_of, networks_of
from torchlime.predictions import Predictions, Synthesize, Targets, predict
from torchlime.surrogates import Fit
from torchlime.version import __version__

Model = Callable[[Tensor], Any]
Progress = Callable[[int, int], object]


def predicted(
    model: Model,
    synthesize: Synthesize,
    shape: tuple[int, int],
    device: torch.device,
    targets: Targets,
    *,
    differentiable: bool,
    **settings: Any,
) -> Predictions:
    """:func:`torchlime.predictions.predict`, with gradients only where they are asked for."""
    with torch.set_grad_enabled(differentiable):
        return predict(
            model, synthesize, shape, device, targets, differentiable=differentiable, **settings
        )


def explained(
    predictions: Predictions,
    design: Tensor,
    count: Tensor,
    *,
    kernel: Callable[..., Tensor],
    surrogate: Callable[..., Fit],
    problems: Tensor,
    differentiable: bool,
    keep_samples: bool,
    energy: Tensor | None = None,
    fitted_rows: slice = slice(None),
    **fields: Any,
) -> Explanation:
    """The fit to predictions, as an Explanation.

    Args:
        predictions: of every row; row 0 is what is explained.
        design: [B,N,S], masks or noise: a row for each of ``fitted_rows``.
        count: [B], the columns of ``design`` that stand for something.
        kernel: design, count, energy → weights.
        surrogate: design, scores, weights, count → Fit.
        problems: [B], known before.
        differentiable: let gradients flow from the scores through the fit.
        keep_samples: keep the design, its scores and weights.
        energy: [B,S], for the kernel.
        fitted_rows: of the predictions.
        fields: of the Explanation, that do not follow from these.
    """
    weights = weigh(kernel, design, count, energy).to(predictions.scores.dtype)
    with torch.set_grad_enabled(differentiable):
        scores = predictions.scores[:, fitted_rows]
        fit = surrogate(design, scores, weights, count)
        fields |= fitted(fit, design, weights, count, fields.get("vectors"), fields.get("scale"))
        fields["scores"] = predictions.scores[:, 0]
    finite = predictions.scores.isfinite().flatten(1).all(dim=1)
    fields["problems"] |= (
        problems
        | flag(~finite, Problem.NON_FINITE_SCORES)
        | flag(~predictions.in_range, Problem.TARGET_OUT_OF_RANGE)
    )
    if keep_samples:
        fields |= {"masks": design, "sample_scores": scores, "weights": weights, "energy": energy}
    return Explanation(targets=predictions.targets, segment_count=count, **fields)


def recorded(settings: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The settings of an Explanation, with those of the call and versions."""
    changes = {
        name: f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else value
        for name, value in changes.items()
    }
    return {**settings, **changes} | {"torchlime": __version__, "torch": str(torch.__version__)}


def autocast_dtype(device: torch.device, own: torch.dtype | None) -> torch.dtype | None:
    """The dtype of autocast in the forward passes: our own setting, else the caller's or None."""
    if own is None and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return own


def unwrapped(model: Model) -> Model:
    """The network within DistributedDataParallel: its wrapper waits for all ranks."""
    inner = getattr(model, "_orig_mod", model)  # torch.compile around it
    model = inner.module if isinstance(inner, DistributedDataParallel) else model
    modules = (module for network in networks_of(model) for module in network.modules())
    if any(isinstance(module, DistributedDataParallel) for module in modules):
        raise ValueError(
            "the model holds a DistributedDataParallel, which would wait for the other ranks; "
            "build it around ddp.module instead"
        )
    return model


def input_dtype(model: Model, inputs: Tensor, these: str = "the images are") -> torch.dtype:
    """The dtype of the model's first floating parameter, else that of ``inputs``."""
    network = module_of(model)
    device = device_of(network)
    if device not in (None, inputs.device):
        raise ValueError(
            f"the model is on {device}, {these} on {inputs.device}; "
            "move one of them with .to(device)"
        )
    parameters = () if network is None else network.parameters()
    return next((p.dtype for p in parameters if p.is_floating_point()), inputs.dtype)


def check_strategies(**strategies: Any) -> None:
    """Raise unless each can be called."""
    for name, strategy in strategies.items():
        if not callable(strategy):
            raise TypeError(f"{name} must be callable, got {strategy!r}")


def check_call(
    model: Model, *, top: int, progress: Progress | None, differentiable: bool = False
) -> None:
    """Raise unless the arguments of a call are what its signature says."""
    check_count(top, "top")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, got {type(progress).__name__}")
    if differentiable and torch.is_inference_mode_enabled():
        raise RuntimeError(
            "differentiable=True needs gradients, which inference_mode rules out; "
            "leave it, or use torch.no_grad() around the rest"
        )
    if differentiable and unwrapped(model) is not model:
        raise ValueError(
            "differentiable=True does not take a DistributedDataParallel model, whose reduction of "
            "gradients it would skip; pass model.module: in one backward() with a loss through the "
            "wrapper its gradients are reduced along with that loss's, else reduce them yourself"
        )


def check_forward_settings(chunk_size: int | None, autocast: torch.dtype | None) -> None:
    """Raise unless forward passes can have them."""
    if chunk_size is not None:
        check_count(chunk_size, "chunk_size")
    if autocast not in (None, torch.bfloat16, torch.float16):
        raise ValueError(f"autocast must be torch.bfloat16, torch.float16 or None, got {autocast}")
