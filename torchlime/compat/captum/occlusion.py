"""Captum's Occlusion: what the outputs lose when a sliding window is replaced."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchlime._undisturbed import undisturbed
from torchlime.compat.captum.arguments import Inputs, as_inputs
from torchlime.compat.captum.attribution import (
    check_perturbations,
    of_no_example,
    scores_of_samples,
)
from torchlime.compat.captum.batch_scoring import outputs_of
from torchlime.compat.captum.calling import Calls
from torchlime.compat.captum.captums import OcclusionParent, wrapped
from torchlime.compat.captum.feature_ablation import FeatureAblation
from torchlime.compat.captum.feature_masks import as_columns
from torchlime.masks import SlidingWindow


class Occlusion(FeatureAblation, OcclusionParent):  # type: ignore[misc]
    """What an output loses, on average over the windows that cover an entry of the inputs.

    The design of each input is a :class:`torchlime.masks.SlidingWindow` over its entries. Results
    are Captum's numbers.

    Args:
        forward_func: the model, or any function of the inputs; it keeps its mode (call ``eval()``).

    Example:
        >>> occlusion = Occlusion(lambda x: x.sum(1))
        >>> occlusion.attribute(torch.tensor([[1.0, 2.0, 3.0]]), (2,)).tolist()
        [[3.0, 4.0, 5.0]]
    """

    def __init__(self, forward_func: Callable[..., Any]):
        FeatureAblation.__init__(self, forward_func)

    @wrapped
    def attribute(  # type: ignore[override]
        self,
        inputs: Any,
        sliding_window_shapes: Any,
        strides: Any = None,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Any:
        """What each output loses, on average over the windows that cover an entry of the inputs.

        Args:
            inputs, baselines, target, additional_forward_args, perturbations_per_eval,
            show_progress: as for :meth:`FeatureAblation.attribute`.
            sliding_window_shapes: the entries of a window along each axis behind the first, such as
                (3, 15, 15) for images; a tuple of these for a tuple of inputs.
            strides: how far a window moves: an int, or one for each axis; a tuple of these for a
                tuple of inputs. None = 1.

        Returns:
            float32 tensors, with shapes as those of :meth:`FeatureAblation.attribute`.

        Raises:
            AssertionError, TypeError, ValueError: an argument, or what the forward function
                returns, does not fit; the sentence says which.
        """
        check_perturbations(perturbations_per_eval)
        read = as_inputs(inputs, baselines, cuts=False)
        windows = windows_of(read, sliding_window_shapes, strides)
        calls = Calls(self.forward_func, read, target, additional_forward_args)
        if read.batch == 0:
            return of_no_example(calls, torch.float32)
        columns = as_columns(None, read)
        whole = outputs_of(calls.whole(), read.batch, read.device)
        numbers = [math.prod(window.places) for window in windows]

        def masks(sample: Tensor) -> Tensor:
            parts, before = [], 0
            for window, number in zip(windows, numbers, strict=True):
                mine = (sample > before) & (sample <= before + number)
                parts.append(window.rows((sample - before).where(mine, torch.zeros_like(sample))))
                before += number
            return torch.cat(parts, dim=1)

        scores = scores_of_samples(
            self, calls, columns, whole, masks, sum(numbers), perturbations_per_eval, show_progress
        )
        lost = (whole.scores[:, None] - scores).transpose(1, 2).flatten(0, 1)
        with undisturbed(read.device):
            parts = [
                _mean_over(part.to(tensor.device), window)
                for part, window, tensor in zip(
                    lost.split(numbers, dim=1), windows, read.tensors, strict=True
                )
            ]
        return read.like(tuple(parts))


def _mean_over(lost: Tensor, window: SlidingWindow) -> Tensor:
    """The mean of values [n,windows] over the windows of each cell: float32 [n,*grid].

    Windows are products of intervals, so that means run along one axis after the other.
    """
    mean = lost.unflatten(1, window.places)
    for axis, (size, stride) in enumerate(zip(window.window, window.strides, strict=True)):
        first, last = window.covering(axis, lost.device)
        shape = [1] * (axis + 1) + [-1] + [1] * (len(window.grid) - axis - 1)
        total = torch.zeros((), dtype=lost.dtype, device=lost.device)
        for behind in range(math.ceil(size / stride)):  # at most this many windows cover a cell
            place = last - behind
            found = mean.index_select(axis + 1, place.clamp(min=0))
            total = total + found.where((place >= first).view(shape), 0.0)
        mean = total / (last - first + 1).view(shape)
    return mean.float()


def windows_of(inputs: Inputs, shapes: Any, strides: Any) -> list[SlidingWindow]:
    """The windows over the entries of each input.

    Raises:
        AssertionError: they do not fit the inputs.
    """
    grids = [tuple(tensor.shape[1:]) for tensor in inputs.tensors]
    if isinstance(shapes, tuple) and (not shapes or isinstance(shapes[0], int)):
        shapes = (shapes,)
    if not isinstance(shapes, tuple) or len(shapes) != len(grids):
        raise AssertionError(
            f"sliding_window_shapes must be a tuple of {len(grids)}, one for each input, got "
            f"{shapes!r}"
        )
    strides = (1,) * len(grids) if strides is None else strides
    if len(grids) == 1 and not (isinstance(strides, tuple) and len(strides) == 1):
        strides = (strides,)
    if not isinstance(strides, tuple) or len(strides) != len(grids):
        raise AssertionError(
            f"strides must be a tuple of {len(grids)}, one for each input, got {strides!r}"
        )
    return [_window(*one) for one in zip(grids, shapes, strides, strict=True)]


def _window(grid: tuple[int, ...], shape: Any, stride: Any) -> SlidingWindow:
    for name, value in (("sliding_window_shapes", shape), ("strides", stride)):
        fits = isinstance(value, tuple) and len(value) == len(grid)
        if not fits and not (name == "strides" and isinstance(value, int)):
            raise AssertionError(
                f"{name} must hold a tuple of {len(grid)} ints for inputs [B, "
                f"{', '.join(map(str, grid))}], got {value!r}"
            )
    try:
        return SlidingWindow(grid, shape, stride)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"sliding_window_shapes or strides do not fit: {error}") from error
