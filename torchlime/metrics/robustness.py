"""How much the evidence changes with the input."""

import torch
from torch import Tensor

from torchlime._checks import check_count, check_positive
from torchlime._hash import hash64, numbers, seeds_of, shift_right
from torchlime._inputs import Extra, Inputs, as_inputs
from torchlime._precision import solve_dtype
from torchlime._several import is_several
from torchlime.black_box import Model
from torchlime.metrics._again import Explain, explain_again, maps_of
from torchlime.metrics.evidence import AnyEvidence


def max_sensitivity(
    model: Model,
    images: Inputs,
    explanation: AnyEvidence,
    *,
    radius: float = 0.02,
    num_samples: int = 10,
    explain: Explain | None = None,
    seed: int | Tensor = 0,
    extra: Extra = None,
) -> Tensor:
    """The largest relative change of the evidence under small noise in the image: [B,T].

    It is the maximum over δ of ‖φ(x + δ) − φ(x)‖₂ / ‖φ(x)‖₂, with every entry of δ uniform in
    [−radius, radius] (Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations"). It
    is 0 or more; lower is better. Each sample explains all images once more.

    Convention:
        An Explanation is made again by its own explainer, with the same masks, segments and
        targets, so that the change is due to the noise alone. The result is NaN where the evidence
        is 0 or not finite. If scores depend on the unmasked image, such as those of a region, they
        are found again in the noisy image. A constant explanation is perfectly stable, so look at
        faithfulness too.

    Args:
        model: as for :meth:`torchlime.Lime.explain`.
        images: [B,C,*axes] floats.
        explanation: the explanation of the images, or a heatmap.
        radius: the largest change of an entry, in units of the images.
        num_samples: how many times noise is drawn.
        explain: images → Explanation or heatmap, like the given one; needed for a heatmap.
        seed: the seed of the noise; an int, or an int64 tensor [B].
        extra: inputs that are only passed on, as for the explanation.

    Raises:
        TypeError, ValueError: an argument is out of range, the images are no single float input, or
            it is not known how the explanation was made.

    Example:
        >>> image = torch.rand(1, 3, 4, 4)
        >>> double = lambda x: 2 * x.sum(1)
        >>> found = max_sensitivity(lambda x: x.sum((2, 3)), image, double(image), explain=double)
        >>> 0 < found.item() < 0.1
        True
    """
    check_positive(radius, "radius")
    check_count(num_samples, "num_samples")
    inputs = as_inputs(images, model)
    if is_several(inputs) or not inputs.is_floating_point():
        raise ValueError(
            "max_sensitivity adds noise to a single float input; it takes no ids or several inputs"
        )
    own = explain_again(model, explanation, extra) if explain is None else explain
    first = maps_of(explanation)
    size = first.flatten(2).norm(dim=2)
    largest = torch.zeros_like(size)
    for sample in range(num_samples):
        moved = maps_of(own(inputs + radius * noise_like(inputs, seed, sample)))
        if moved.shape != first.shape:
            raise ValueError(
                f"explain returned evidence of shape {list(moved.shape)}, but the explanation has "
                f"{list(first.shape)}"
            )
        largest = torch.maximum(largest, (moved - first).flatten(2).norm(dim=2))
    return torch.where(size > 0, largest / size, torch.nan)


def noise_like(inputs: Tensor, seed: int | Tensor, sample: int) -> Tensor:
    """Uniform noise in [−1, 1] like the inputs, by (seed, sample, entry) alone."""
    batch = inputs[:, 0].flatten(1).new_zeros(len(inputs), dtype=torch.int64)
    seeds = seeds_of(seed, batch)[:, None]
    bits = hash64(seeds, sample, numbers(inputs[0].numel(), batch))
    unit = shift_right(bits, 11).to(solve_dtype(inputs.device)) / 2**52 - 1
    return unit.expand(len(inputs), -1).view(inputs.shape).to(inputs.dtype)
