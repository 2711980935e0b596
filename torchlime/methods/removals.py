"""Methods that hide parts of the image and look at the score, without a regression."""

from typing import Any, Unpack

from torchlime.fills import ImageMean
from torchlime.lime import Lime
from torchlime.masks import LeaveOneOut, SlidingWindow
from torchlime.methods._registry import MethodSettings, check_free, recipe, with_lime
from torchlime.rise import Rise
from torchlime.rounds import Once
from torchlime.segments import Grid
from torchlime.surrogates import MeanDrop
from torchlime.weights import Uniform


@recipe(
    "Petsiuk, Das & Saenko 2018, RISE: Randomized Input Sampling for Explanation of Black-box "
    "Models",
    also_fixes=("rounds",),
)
def rise(difference: bool = False, **settings: Any) -> Rise:
    """The mean score over soft random masks, weighted by how much of the pixel each mask shows.

    The settings are those of :class:`torchlime.Rise`. With ``difference``, the mean weighted by how
    much of the pixel each mask hides is subtracted, so that evidence has two signs.
    """
    check_free("rise", settings, {}, Rise.__dataclass_fields__)
    return Rise(difference=difference, **settings)


@recipe(
    "Robnik-Šikonja & Kononenko 2008, Explaining Classifications for Individual Instances",
    "a hidden segment shows the fill, while the paper averages over the values of a feature.",
    also_fixes=("rounds",),
)
def leave_one_out(**settings: Unpack[MethodSettings]) -> Lime:
    """What the score loses when one segment is hidden and all others are shown."""
    return with_lime(
        "leave_one_out", {"num_samples": 4096, **settings},
        sampler=LeaveOneOut(), rounds=Once(), kernel=Uniform(), surrogate=MeanDrop(),
    )  # fmt: skip


@recipe(
    "Zeiler & Fergus 2014, Visualizing and Understanding Convolutional Networks",
    "a cell has the mean over the windows that cover it, as in Captum; the paper draws the score "
    "at the place of each window. The window shows the mean colour of the image, the paper's grey.",
    also_fixes=("segmenter", "rounds"),
)
def occlusion(
    grid: tuple[int, ...] = (14, 14),
    window: tuple[int, ...] = (3, 3),
    stride: tuple[int, ...] | int = 1,
    **settings: Unpack[MethodSettings],
) -> Lime:
    """What the score loses when a window that slides over the image hides a part of it.

    ``window`` and ``stride`` count the cells of the ``grid``.
    """
    sampler = SlidingWindow(grid, window, stride)  # it checks the grid
    return with_lime(
        "occlusion", {"num_samples": 4096, "fill": ImageMean(), **settings},
        segmenter=Grid(*grid), sampler=sampler, rounds=Once(), kernel=Uniform(),
        surrogate=MeanDrop(),
    )  # fmt: skip
