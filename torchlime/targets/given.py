"""A caller's ``targets`` as Scores."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from torchlime._checks import check_count, check_targets
from torchlime._inputs import Array, as_targets
from torchlime._several import is_several, leaves_of
from torchlime.strategies import Scores
from torchlime.targets.classes import Classes
from torchlime.targets.computed import Computed
from torchlime.targets.placing import Place

# Anything that scores_of() takes; Scores objects are callable too.
Listed = Sequence[int] | Sequence[Sequence[int]]
Targets = int | Tensor | Array | Listed | Callable[..., Tensor] | Scores | Literal["all"] | None


def words_of_scores(scores: Any) -> dict[str, str]:
    """Scores that are no classes, for the settings of an explanation."""
    return {} if isinstance(scores, Classes) else {"scores": repr(scores)}


def scores_of(
    targets: Any,
    top: int,
    batch: int,
    device: torch.device,
    these: str = "the images are",
    size: Sequence[int] | None = None,
) -> Any:
    """A caller's ``targets`` as Scores.

    Args:
        targets: None, "all", an int, a tensor or a list of ints [B] or [B,T], a function
            ``(outputs, rows) → [n,T]``, or an object with ``reference``; one that holds something
            of each input also has ``placed``, see :class:`torchlime.targets.placing.Placeable`.
        top: how many of the best classes where ``targets`` is None.
        batch: B.
        device: of the inputs.
        these: subject and verb of a sentence about the inputs.
        size: (H, W) of images; None if the inputs have none.

    Raises:
        TypeError, ValueError: ``targets`` is none of these.
    """
    check_count(top, "top")
    if isinstance(targets, type):
        raise TypeError(
            f"targets is the class {targets.__name__} itself; make one of it: {targets.__name__}(…)"
        )
    if hasattr(targets, "reference"):
        if not hasattr(targets, "placed"):
            return targets
        return targets.placed(Place(batch, device, None if size is None else tuple(size), these))
    if callable(targets):
        return Computed(targets)
    if isinstance(targets, str) and targets == "all":
        return Classes("all")
    targets = as_targets(targets, device)
    check_targets(targets, batch, device, these)
    return Classes(targets, top)


def scores_for(inputs: Any, targets: Any, top: int) -> Any:
    """:func:`scores_of` for inputs: a tensor [B,C,*axes] or [B,F], or several of them."""
    these = "the inputs are" if is_several(inputs) else "the images are"
    first = leaves_of(inputs)[0]
    return scores_of(targets, top, len(first), first.device, these, first.shape[2:] or None)
