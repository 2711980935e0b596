"""Summary: what the explanations of a job say together, as pieces of its report."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torchlime.explanation import Explanation, label_map_of
from torchlime.metrics import mean_heatmap, representative
from torchlime.metrics.many import cell_means
from torchlime.plot import AGAINST, FOR

CELLS = 7  # along a side of the view, at most
TELLING = 6  # photos that are named

STYLE = """
.mean { display: flex; gap: .75rem; align-items: center; margin-bottom: 1rem }
.mean div { display: grid; flex: none; gap: 1px; width: 7rem; border: 1px solid GrayText }
.mean div span { aspect-ratio: 1 }
"""


class Together(NamedTuple):
    """What the report says of the photos of one class."""

    photos: int
    mean: Tensor  # [h,w]: the mean heatmap of each photo's first target on a common grid
    error: Tensor  # [h,w]: its standard errors
    evidence: Tensor  # [photos,T,h·w]: each photo's own


def together(explanations: Sequence[Explanation]) -> Together:
    """The mean and the evidence of one or more explanations."""
    views = [label_map_of(e).shape[1:] for e in explanations]
    grid = tuple(min(CELLS, *sides) for sides in zip(*views, strict=True))
    evidence = torch.cat([cell_means(e, grid) for e in explanations])
    return Together(len(explanations), *mean_heatmap(explanations, grid), evidence)


def most_telling(classes: Sequence[Together]) -> list[int]:
    """The places of the photos that together show most, through the classes in order.

    There are none where the job has no more photos than would be named.
    """
    if sum(each.photos for each in classes) <= TELLING:
        return []
    found: list[int] = representative(
        torch.cat([each.evidence for each in classes]), TELLING
    ).tolist()
    return found


def figure(each: Together) -> str:
    """The mean of a class as HTML; nothing where it has a single photo."""
    if each.photos < 2:
        return ""
    sure = each.mean.abs() > 2 * each.error
    largest = each.mean.abs().max().item()
    cells = "".join(
        f'<span title="{mean:+.3g} ± {error:.2g}"{_colour(mean / largest if sure else 0.0)}></span>'
        for mean, error, sure in zip(
            each.mean.flatten().tolist(),
            each.error.flatten().tolist(),
            sure.flatten().tolist(),
            strict=True,
        )
    )
    columns = f"grid-template-columns: repeat({each.mean.shape[1]}, 1fr)"
    return (
        f'<figure class="mean">\n<div role="img" style="{columns}" '
        f'aria-label="mean evidence over the view">{cells}</div>\n'
        f"<figcaption>Mean evidence of the {each.photos} photos over the network's view. Cells "
        "within two standard errors of 0 have no colour.</figcaption>\n</figure>\n"
    )


def _colour(share: float) -> str:
    """The style of a cell, by its evidence as a share of the largest."""
    if share == 0:
        return ""
    red, green, blue = FOR if share > 0 else AGAINST
    return f' style="background: rgb({red} {green} {blue} / {abs(share):.2f})"'
