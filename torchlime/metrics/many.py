"""Many explanations at once: the inputs that show most, and the mean over a class."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from torchlime._checks import check_count, is_integer
from torchlime._names import TextNames
from torchlime._precision import solve_dtype
from torchlime._problems import Problem
from torchlime.explanation import Explanation, label_map_of
from torchlime.segments.axis import Axis


def representative(
    explanations: "Explanation | Sequence[Explanation] | Tensor",
    k: int,
    *,
    top: int = 10,
    grid: Sequence[int] = (7, 7),
) -> Tensor:
    """The ``k`` inputs that together show the most important features: [k] int64, the best first.

    This is the submodular pick of LIME (Ribeiro et al. 2016, algorithm 2). Let Wᵢⱼ be the evidence
    of feature j in input i. The importance of a feature is Iⱼ = √Σᵢ|Wᵢⱼ|. The inputs are picked one
    by one. Each pick is the input that adds the most importance. A feature adds importance only if
    no input that was picked before shows it.

    Features must mean the same in all inputs. This holds for vectors and rows of a table; without
    bins, their evidence is the coefficient times the feature's scale. Texts are compared by their
    words, as in lime: equal words of a text count as one feature, and their coefficients are added.
    Tokens are compared in the same way if the explanation knows their names. The names are compared
    on the host, so the coefficients of texts and tokens are read back. Images are compared by the
    means of their heatmaps over the cells of a common grid.

    Convention:
        Only the ``top`` strongest features of each input and target count; among equals, the lower
        number comes first. A feature without evidence never counts. |W| is summed over the targets.
        Inputs are numbered from 0 through all explanations in order. Ties go to the last input, as
        in lime. Explanations that are not finite show nothing, and are picked last. Importances are
        added as whole numbers of 62 − ⌈log₂(F + 1)⌉ bits, so ties are the same on every device.

    Args:
        explanations: an explanation of many inputs, or several explanations of the same features;
            or their evidence as a tensor, [inputs,F] or [inputs,T,F].
        k: how many inputs to pick.
        top: features of an input and target that count; ``num_features`` of lime.
        grid: cells along each axis of an image; not used for other inputs and tensors.

    Raises:
        TypeError: ``explanations`` are not as above, or a number is not an int.
        ValueError: ``k`` or ``top`` is below 1, ``k`` is above the number of inputs, the
            explanations do not have the same features, tokens have no names, or the grid does not
            fit.

    Example:
        >>> evidence = torch.tensor([[3.0, 0.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> representative(evidence, 2).tolist()
        [1, 2]
    """
    check_count(k, "k")
    check_count(top, "top")
    evidence = _evidence(explanations, grid)
    sound = evidence.isfinite().flatten(1).all(1)
    if k > len(evidence):
        raise ValueError(f"k must be at most the number of inputs, {len(evidence)}, got {k}")
    evidence = _scaled(torch.where(sound[:, None, None], evidence, 0.0))
    return _greedy_cover(_strongest(evidence, top).sum(1), sound, k)


def mean_heatmap(
    explanations: "Explanation | Sequence[Explanation]",
    grid: Sequence[int] = (7, 7),
    *,
    target: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The mean heatmap of many images on a common grid, and its standard errors: both ``grid``.

    A cell of an image has the mean of its heatmap. The mean of n images has the standard error s /
    √n with s² = Σᵢ(xᵢ − x̄)² / (n − 1). It covers the differences between images and the sampling
    errors of their explanations.

    Convention:
        Every image counts once. Images that do not explain ``target``, or whose explanation is not
        finite, do not count. If no image is left, both results are NaN; if one is left, the error
        is NaN. Cell (i, j) covers the rows i·H//h … (i+1)·H//h − 1, and the columns in the same
        way.

    Args:
        explanations: an explanation of many images, or several explanations. The images may differ
            in size.
        grid: cells along each axis: (h, w) for images, three numbers for volumes.
        target: a class that was explained; None = the first target of each image.

    Raises:
        TypeError: ``explanations`` are not as above, or a number is not an int.
        ValueError: they are of vectors, of several inputs or of soft segments, they lie on several
            devices, or the grid does not fit.

    Example:
        >>> from torchlime import explain, fills, segments
        >>> images = torch.rand(5, 1, 8, 8)
        >>> black = {"segmenter": segments.Grid(2, 2), "fill": fills.Constant(0.0)}
        >>> bright = explain(lambda x: x.mean((2, 3)), images, **black)
        >>> mean, error = mean_heatmap(bright, grid=(2, 2))
        >>> mean.shape, bool((mean > 0).all())
        (torch.Size([2, 2]), True)
    """
    if target is not None and not is_integer(target):
        raise TypeError(f"target must be an int or None, got {type(target).__name__}")
    cells = [_of_target(e, cell_means(e, grid), target) for e in _several(explanations)]
    values = torch.cat([value for value, _ in cells])
    counts = torch.cat([count for _, count in cells])[:, None]
    values = torch.where(counts, values, 0.0)
    number = counts.sum()
    mean = values.sum(0) / number
    squares = torch.where(counts, (values - mean).square(), 0.0).sum(0)
    error = (squares / (number - 1) / number).sqrt()
    error = torch.where(number > 1, error, torch.nan)
    shape = tuple(int(parts) for parts in grid)
    return mean.view(shape), error.view(shape)


def cell_means(explanation: Explanation, grid: Sequence[int]) -> Tensor:
    """The mean of the heatmap over each of the G cells of a grid: [B,T,G]."""
    labels = label_map_of(explanation)
    cell, number = _cells(labels, grid)
    batch, _, bound = explanation.coefficients.shape
    place = torch.where(labels.flatten(1) < 0, bound, labels.flatten(1)) * number + cell
    pixels = place.new_zeros(batch, (bound + 1) * number)
    pixels.scatter_add_(1, place, torch.ones_like(place))
    pixels = pixels.view(batch, bound + 1, number)
    shares = (pixels / pixels.sum(1, keepdim=True)).to(explanation.coefficients.dtype)
    return explanation.coefficients @ shares[:, :-1]  # what is behind the bound is background


def _several(explanations: Any) -> list[Explanation]:
    given = [explanations] if isinstance(explanations, Explanation) else explanations
    if not isinstance(given, Sequence) or not all(isinstance(e, Explanation) for e in given):
        raise TypeError(
            "explanations must be an Explanation or a list of them, got "
            f"{type(explanations).__name__}"
        )
    devices = {str(e.coefficients.device) for e in given}
    if len(devices) != 1:
        raise ValueError(
            f"explanations must be one or more on one device, got {len(given)} on {sorted(devices)}"
        )
    return list(given)


def _evidence(explanations: Any, grid: Sequence[int]) -> Tensor:
    """[inputs,T,F], NaN where a target is out of range."""
    if isinstance(explanations, Tensor):
        if explanations.dim() not in (2, 3) or 0 in explanations.shape:
            raise ValueError(
                "evidence must have shape [inputs,F] or [inputs,T,F], got "
                f"{list(explanations.shape)}"
            )
        if not explanations.is_floating_point():
            raise TypeError(f"evidence must be floating point, got {explanations.dtype}")
        return explanations if explanations.dim() == 3 else explanations[:, None]
    given = _several(explanations)
    if any(_is_of_words(e) for e in given):
        found = _of_words(given)
    else:
        found = [_of_vectors(e) if e.segments is None else cell_means(e, grid) for e in given]
    kinds = {f"{e.kind.input}s with {list(w.shape[1:])}" for e, w in zip(given, found, strict=True)}
    if len(kinds) != 1:
        raise ValueError(
            "the explanations must be of the same targets and features, got [targets,features] of "
            f"{sorted(kinds)}"
        )
    in_range = torch.cat([_in_range(e) for e in given])
    return torch.where(in_range[:, None, None], torch.cat(found), torch.nan)


def _in_range(explanation: Explanation) -> Tensor:
    return (explanation.problems & Problem.TARGET_OUT_OF_RANGE) == 0


def _of_vectors(explanation: Explanation) -> Tensor:
    scale = explanation.scale
    coefficients = explanation.coefficients
    return coefficients if scale is None else coefficients * scale[:, None]


def _is_of_words(explanation: Explanation) -> bool:
    return isinstance(explanation.named, TextNames) or explanation.kind.input == "text"


def _of_words(given: list[Explanation]) -> list[Tensor]:
    """The coefficients [B,T,W] of the W words of all texts; those of equal words are added."""
    words = [names for e in given if _is_of_words(e) for names in e.names() or ()]
    if len(words) != sum(map(len, given)):
        raise ValueError(
            "the features of texts are compared by their names, but some of the explanations have "
            "no names; explain_tokens(tokenizer=) gives names to tokens"
        )
    place = {word: number for number, word in enumerate(dict.fromkeys(chain(*words)))}
    named = iter(words)
    found = []
    for e in given:
        rows = [_by_place(row, next(named), place) for row in e.coefficients.cpu()]  # on the host
        found.append(torch.stack(rows).to(e.coefficients.device))
    return found


def _by_place(coefficients: Tensor, names: Sequence[str], place: dict[str, int]) -> Tensor:
    """Coefficients [T,S] of features with these names, at the places of the names: [T,W]."""
    found = coefficients.new_zeros(len(coefficients), len(place))
    index = torch.tensor([place[name] for name in names], dtype=torch.int64)
    return found.index_add_(1, index, coefficients[:, : len(names)])


def _cells(labels: Tensor, grid: Sequence[int]) -> tuple[Tensor, int]:
    """The cell of each pixel of label maps [B,*axes], [P] int64, and how many there are."""
    sides = labels.shape[1:]
    if isinstance(grid, str) or not isinstance(grid, Sequence):
        raise TypeError(f"grid must be a number for each axis, such as (7, 7), got {grid!r}")
    for parts in grid:
        check_count(parts, "a number of grid")
    too_fine = any(parts > side for parts, side in zip(grid, sides, strict=False))
    if len(grid) != len(sides) or too_fine:
        raise ValueError(
            f"grid {tuple(grid)} does not fit label maps of {'×'.join(map(str, sides))} pixels: it "
            "must have a number for each axis, of at most its pixels"
        )
    cell = torch.zeros((), dtype=torch.int64, device=labels.device)
    for parts, side in zip(grid, sides, strict=True):
        cell = cell[..., None] * int(parts) + Axis(side, int(parts)).part(labels.device)
    return cell.flatten(), math.prod(grid)


def _of_target(
    explanation: Explanation, values: Tensor, target: int | None
) -> tuple[Tensor, Tensor]:
    """The values [B,T,G] of one target, [B,G], and which images count, [B] bool."""
    counts = _in_range(explanation)
    if target is None:
        chosen = values[:, 0]
    else:
        matches = explanation.targets == target
        counts = counts & matches.any(1)
        first = matches.long().argmax(1)
        chosen = values.gather(1, first[:, None, None].expand(-1, 1, values.shape[2]))[:, 0]
    return chosen, counts & chosen.isfinite().all(1)


def _scaled(evidence: Tensor) -> Tensor:
    """Evidence divided by a power of two if it is above 1, so that no sum of it overflows."""
    evidence = evidence.to(solve_dtype(evidence.device))
    _, exponent = torch.frexp(evidence.abs().amax())
    return evidence * torch.exp2(-exponent.clamp(min=0).to(evidence.dtype))


def _strongest(evidence: Tensor, top: int) -> Tensor:
    """|evidence| [inputs,T,F] of the ``top`` strongest features, 0 elsewhere."""
    strength = evidence.abs()
    order = strength.sort(dim=-1, descending=True, stable=True).indices
    keep = torch.zeros_like(strength, dtype=torch.bool).scatter(-1, order[..., :top], True)
    return torch.where(keep, strength, 0.0)


def _greedy_cover(evidence: Tensor, sound: Tensor, k: int) -> Tensor:
    """Picks [k] among the rows of |W| [inputs,F]: each adds the most new importance.

    Rows that are not ``sound`` [inputs] come last.
    """
    shows = evidence > 0
    importance = _whole(evidence.sum(0).sqrt())
    covered = torch.zeros_like(shows[0])
    number = torch.arange(len(shows), device=shows.device)
    left = torch.ones_like(number, dtype=torch.bool)
    picks = []
    for _ in range(k):
        gain = torch.where(sound, (importance * (shows | covered)).sum(1), -1)
        gain = torch.where(left, gain, -2)
        pick = torch.where(gain == gain.amax(), number, -1).amax(0, keepdim=True)
        covered = covered | shows.index_select(0, pick)[0]
        left = left & (number != pick)
        picks.append(pick)
    return torch.cat(picks)


def _whole(importance: Tensor) -> Tensor:
    """Importances [F] as whole numbers whose sum cannot overflow."""
    bits = 62 - math.ceil(math.log2(len(importance) + 1))
    largest = importance.amax()
    share = importance / torch.where(largest > 0, largest, 1)
    return (share.to(solve_dtype(share.device)) * 2.0**bits).round().long()
