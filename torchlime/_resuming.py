"""Going on from the samples of an explanation: whether they are the beginning of this call's."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from torchlime._by_need import following
from torchlime._checks import is_integer
from torchlime._names import TextNames
from torchlime._provenance import in_words
from torchlime._returns import goes_on
from torchlime._several import is_several, leaves_of
from torchlime._warn import warn
from torchlime.explanation import Explanation
from torchlime.rounds import Once, Until
from torchlime.strategies import Features, Rounds, Sampler

Draw = Callable[[int, int], Tensor]  # number of rows, first row → design [B,n,S]

# What changes no sample, and what is compared by itself
_FREE = {"num_samples", "rounds", "kernel", "surrogate", "chunk_size", "exact_chunks", "frames"}
_FREE |= {"segmenter", "sampler", "seed"}
_NEAR = 1e-2  # of the largest score: what bfloat16, TF32 or another chunk size change


def check_settings(kept: Any, settings: Any) -> None:
    """Raise where settings, such as the fill, are not those of an explanation to go on from.

    Raises:
        ValueError: the sentence names the setting.
    """
    if isinstance(kept, Explanation):
        mine = {name: value for name, value in vars(settings).items() if name not in _FREE}
        _check_words(kept, mine)


def check_resume(
    kept: Any,
    rounds: Rounds,
    sampler: Sampler,
    seed: int | Tensor,
    features: Features,
    draw: Draw,
    num_samples: int,
    stops: range,
    differentiable: bool,
) -> None:
    """Raise unless samples can go on from those of an explanation.

    There are ``num_samples`` more; or with ``stops``, as many as lead to the next of them.

    Raises:
        TypeError, ValueError: the sentence says what differs.
    """
    if not isinstance(kept, Explanation):
        raise TypeError(f"resume must be an Explanation, got {type(kept).__name__}")
    if kept.masks is None or kept.sample_scores is None:
        raise ValueError("resume needs an explanation with its samples: keep_samples=True")
    if not isinstance(rounds, Once | Until):
        raise TypeError(f"resume goes on by Once() or Until(), not by {rounds!r}")
    if not goes_on(sampler):
        raise TypeError(f"resume draws further rows, and {sampler!r} has none")
    if differentiable:
        raise ValueError(
            "resume holds scores without their gradients, so differentiable=True cannot go on from "
            "it; explain without resume"
        )
    count, other = features.count, kept.masks.device
    if len(kept) != len(count):
        raise ValueError(f"resume explains {len(kept)} inputs, but there are {len(count)}")
    if other != count.device:
        raise ValueError(f"resume lies on {other}, and the inputs on {count.device}; move one")
    # The words do not hold a tensor of seeds, and it may be of some inputs only: compare masks.
    _check_words(kept, {"sampler": sampler} | ({} if isinstance(seed, Tensor) else {"seed": seed}))
    _check_features(kept, features)
    used = [kept.masks.shape[1]]
    if kept.samples_used is not None:
        used = kept.samples_used.tolist()  # read back
    rows = max(used)
    ends = following(stops, rows) if stops else {number + num_samples for number in used}
    _check_design(kept.masks[:, :rows], draw, ends)


def check_unmasked(kept: Explanation, targets: Tensor, scores: Tensor) -> None:
    """Raise unless the targets [B,T] are those of an explanation; warn of other scores [B,T].

    Raises:
        ValueError: the targets differ.
    """
    if not torch.equal(kept.targets, targets):  # read back
        raise ValueError(
            f"resume explains the targets {kept.targets.tolist()}, but this call asks for "
            f"{targets.tolist()}; pass the former as targets"
        )
    assert kept.sample_scores is not None
    largest = torch.cat([kept.scores, kept.sample_scores.abs().amax(dim=1)], dim=1).abs()
    off = (scores - kept.scores).abs() > _NEAR * largest.amax(dim=1, keepdim=True)
    if bool(off.any()):  # read back
        warn(
            "the model gives other scores for the inputs than when resume was made: its samples "
            "may be of another model or of other inputs, unless the model draws random numbers"
        )


def made_by(
    explanation: Explanation,
    settings: Any,
    seed: int | Tensor,
    kept: Explanation | None,
    **words: Any,
) -> Explanation:
    """The explanation with its settings, which are those of one call if it goes on from ``kept``.

    ``words`` stand in the place of settings of the same name.
    """
    used = explanation.samples_used
    if kept is not None and used is not None and not isinstance(settings.rounds, Until):
        settings = dataclasses.replace(settings, num_samples=int(used.max()))  # read back
    if is_integer(seed) and seed != settings.seed:
        settings = dataclasses.replace(settings, seed=int(seed))
    told = in_words(**{**vars(settings), "seed": seed, **words})
    return dataclasses.replace(explanation, settings=told, explainer=settings)


def _check_words(kept: Explanation, settings: dict[str, Any]) -> None:
    words = in_words(**settings)
    for name in settings:
        was = kept.settings.get(name, words[name])
        if was != words[name]:
            raise ValueError(f"resume has {name} {was}, but this call has {words[name]}")


def _check_features(kept: Explanation, features: Features) -> None:
    """Label maps, vectors, bins and texts are read back."""
    names = getattr(features, "names", None)
    if isinstance(names, TextNames) and isinstance(kept.named, TextNames) and names != kept.named:
        raise ValueError("resume explains other texts")
    for name, value in features.fields().items():
        was = getattr(kept, name)
        if is_several(value) == is_several(was) and not _equal(leaves_of(value), leaves_of(was)):
            raise ValueError(f"resume has other {name} than these inputs have")


def _equal(mine: Sequence[Any], theirs: Sequence[Any]) -> bool:
    return len(mine) == len(theirs) and all(
        a.shape == b.shape and torch.equal(a.nan_to_num(), b.to(a.dtype).nan_to_num())
        for a, b in zip(mine, theirs, strict=True)
        if isinstance(a, Tensor) and isinstance(b, Tensor)
    )


def _check_design(masks: Tensor, draw: Draw, ends: Collection[int]) -> None:
    """Raise unless the masks, and a design of each of the ``ends``, are the start of a longer one.

    All these designs are drawn again, and read back.
    """
    rows, longer = masks.shape[1], max(ends, default=masks.shape[1])
    begin = draw(rows, 0)
    if not torch.equal(begin, masks):
        raise ValueError(
            "resume holds other samples than this sampler, this seed and these inputs have, so "
            "that there is nothing to go on from; explain without resume"
        )
    whole = draw(longer, 0)
    goes_on_so = longer == rows or torch.equal(whole[:, rows:], draw(longer - rows, rows))
    if not (goes_on_so and torch.equal(whole[:, :rows], begin)):
        raise ValueError(
            f"resume has {rows} rows, which are so few that a longer design of this sampler begins "
            "otherwise; explain without resume"
        )
    for end in ends:
        if end < longer and not torch.equal(draw(end, 0), whole[:, :end]):
            raise ValueError(
                f"an input would have {end} rows, but the last rows of a design of {end} rows are "
                "others than those of a longer one; take another num_samples, such as an even one"
            )
