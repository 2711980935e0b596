"""Whether evidence depends on what the model has learnt."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from torchlime._checks import is_integer
from torchlime._inputs import Extra, Inputs, as_inputs
from torchlime._networks import networks_of
from torchlime.black_box import Model
from torchlime.explanation import Explanation
from torchlime.masks import present
from torchlime.metrics._again import Explain, explain_again, maps_of
from torchlime.metrics._correlation import spearman
from torchlime.metrics._ssim import ssim
from torchlime.metrics.evidence import AnyEvidence
from torchlime.metrics.placement import pixels_of
from torchlime.noise import Gaussian

Similarity = Literal["rank", "absolute rank", "ssim"]
Draw = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, eq=False)
class Randomised:
    """How similar the evidence of more and more randomised models is to the first evidence.

    Attributes:
        layers: the name of the layer that each step randomised, in the order of the steps.
        similarity: [L,B,T], after each step.
    """

    layers: tuple[str, ...]
    similarity: Tensor


def redrawn(parameter: Tensor, seed: int) -> Tensor:
    """Normal values with the mean and standard deviation of the parameter's own, by the seed.

    So activations keep their size for any initialisation. A parameter whose entries are all equal,
    such as the weights of a new normalisation layer, stays as it is.

    >>> weight = torch.linspace(0, 1, 1000)
    >>> new = redrawn(weight, 3)
    >>> abs(new.mean() - weight.mean()).item() < 0.05, abs(new.std() - weight.std()).item() < 0.05
    (True, True)
    """
    count = torch.full((1,), parameter.numel(), device=parameter.device)
    noise = Gaussian(antithetic=False)(count, parameter.numel(), 2, seed=seed)[0, 0]
    values = parameter.detach().float()
    spread = values.std(correction=0)
    return (values.mean() + spread * noise.view(values.shape)).to(parameter.dtype)


@contextlib.contextmanager
def kept(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Inside, parameters may be overwritten; they are restored afterwards, also after an error."""
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, values in zip(parameters, before, strict=True):
                parameter.copy_(values)
        torch.clear_autocast_cache()  # it holds casts of the weights while the caller's is on


def randomisation(
    model: Model,
    images: Inputs,
    explanation: AnyEvidence,
    *,
    layers: Sequence[str] | None = None,
    similarity: Similarity = "rank",
    explain: Explain | None = None,
    draw: Draw = redrawn,
    seed: int = 0,
    extra: Extra = None,
) -> Randomised:
    """The similarity of the evidence before and after the model's weights are randomised.

    This is the cascading randomisation of Adebayo et al. 2018, "Sanity Checks for Saliency Maps".
    Layer by layer, from the output to the input, the parameters are replaced by random ones, and
    the images are explained again. Evidence that stays similar does not depend on what the model
    has learnt. So lower is better. Each step explains all images once.

    Convention:
        "rank" is Spearman's correlation of the signed evidence over segments or pixels. "absolute
        rank" is that of the absolute evidence. "ssim" is the structural similarity of the heatmaps
        [B,T,H,W], each divided by its largest absolute value, with a span of 2. All lie in [−1, 1].
        They are NaN where the evidence is not finite; a correlation is also NaN where the evidence
        is constant, and the structural similarity where it is 0 everywhere. Buffers, such as
        running means, stay as they are.

    Args:
        model: a network, or a function whose code names one.
        images, explanation, explain, extra: as for :func:`torchlime.metrics.max_sensitivity`;
            ``explain`` must use the same network.
        layers: names of modules, in the order of randomisation; a name stands for all parameters
            below it, such as "layer4". None = every module with parameters of its own, the last
            one registered first.
        similarity: "rank", "absolute rank" or "ssim".
        draw: parameter, seed → new values in the shape of the parameter.
        seed: an int, from which each parameter gets its own seed.

    Raises:
        TypeError, ValueError: the model has no network, a layer is unknown or has no parameters, or
            an argument is out of range. The parameters are restored first.

    Example:
        >>> from torchlime import explain, segments
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3)).eval()
        >>> image = torch.rand(1, 3, 4, 4)
        >>> e = explain(net, image, segmenter=segments.Grid(4, 4), num_samples=64)
        >>> found = randomisation(net, image, e)
        >>> found.layers, found.similarity.shape
        (('1',), torch.Size([1, 1, 1]))
    """
    if similarity not in get_args(Similarity):
        raise ValueError(f"similarity must be one of {get_args(Similarity)}, got {similarity!r}")
    if not is_integer(seed):
        raise TypeError(f"seed must be an int, got {type(seed).__name__}")
    steps = _layers(model, layers)
    every = list({id(p): p for _, own in steps for p in own}.values())
    inputs = as_inputs(images, model)
    own = explain_again(model, explanation, extra) if explain is None else explain
    found = []
    with kept(every):
        done: set[int] = set()
        for _, parameters in steps:
            with torch.no_grad():
                for parameter in parameters:
                    if id(parameter) not in done:
                        done.add(id(parameter))
                        parameter.copy_(draw(parameter, seed_of(int(seed), len(done))))
            torch.clear_autocast_cache()
            found.append(_alike(explanation, own(inputs), similarity))
    return Randomised(tuple(name for name, _ in steps), torch.stack(found))


def seed_of(seed: int, number: int) -> int:
    """The seed of the ``number``-th parameter that is randomised; a hash mixes it."""
    return (seed + number * 0x9E3779B97F4A7C15) % 2**64


def _layers(model: Model, names: Sequence[str] | None) -> list[tuple[str, list[Tensor]]]:
    networks = networks_of(model)
    if not networks:
        raise TypeError(
            "randomisation needs a network: a torch.nn.Module, or a function whose code names one, "
            f"got {type(model).__name__}"
        )
    modules: dict[str, nn.Module] = {}
    for network in reversed(networks):  # the first network's names win
        modules |= dict(network.named_modules())
    if names is None:
        found = [(n, _held(m, recurse=False)) for n, m in reversed(modules.items())]
        found = [(name, parameters) for name, parameters in found if parameters]
    else:
        if isinstance(names, str):
            raise TypeError(f"layers must be a list of names, got the str {names!r}")
        unknown = [name for name in names if name not in modules]
        if unknown:
            raise ValueError(f"the model has no layers {unknown}; it has {sorted(modules)[1:]}")
        found = [(name, _held(modules[name])) for name in names]
    empty = [name for name, parameters in found if not parameters]
    if empty or not found:
        raise ValueError(f"there are no parameters to randomise in {empty or 'the model'}")
    return found


def _held(module: nn.Module, recurse: bool = True) -> list[Tensor]:
    return list(module.parameters(recurse))


def _alike(before: AnyEvidence, after: AnyEvidence, similarity: Similarity) -> Tensor:
    """How similar two explanations of the same images are: [B,T]."""
    if similarity == "ssim":
        one, two = pixels_of(before), pixels_of(after)
    else:
        one, two = maps_of(before), maps_of(after)
    if one.shape != two.shape:
        raise ValueError(
            f"explain returned evidence of shape {list(two.shape)}, but the explanation has "
            f"{list(one.shape)}"
        )
    if similarity == "ssim":
        sizes = [side.abs().amax((2, 3), keepdim=True) for side in (one, two)]
        one, two = (side / size for side, size in zip((one, two), sizes, strict=True))
        return ssim(one, two)
    if similarity == "absolute rank":
        one, two = one.abs(), two.abs()
    valid = None
    if isinstance(before, Explanation):
        valid = present(before.segment_count, one.shape[2]).expand_as(one)
    one, two = one.flatten(2), two.flatten(2)
    finite = (one.isfinite() & two.isfinite()).all(2)
    return torch.where(finite, spearman(one, two, valid), torch.nan)
