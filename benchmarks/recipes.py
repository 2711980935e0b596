"""The recipes that the study compares: those of torchlime.methods, and torchlime's default."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchlime import Lime, methods
from torchlime.fills import Constant, SegmentMean
from torchlime.rounds import Once
from torchlime.segments import Grid

LIME, DEFAULT = "lime", "torchlime"
GREY = Constant(0.498)  # 0 in the space of EfficientNet-Lite0's normalised images
LEFT_OUT = ("grid_lime",)  # here the segments of all methods are a grid's


@dataclass(frozen=True, eq=False)
class Case:
    """What is explained, by every method alike.

    Args:
        model: images → scores [n,1] of the one target.
        images: [B,C,H,W].
        grid: the segments are its cells; None where they have no places.
        labels: [H,W].
        fill: what a hidden segment shows.
        chunk_size: the most rows of a forward pass.
    """

    model: Callable[[Tensor], Tensor]
    images: Tensor
    grid: tuple[int, int] | None
    labels: Tensor
    fill: Any
    chunk_size: int | None = None

    @property
    def bound(self) -> int:
        """K."""
        return int(self.labels.max()) + 1


def names() -> list[str]:
    """The methods, LIME first."""
    known = [name for name in methods.names() if name not in (LIME, *LEFT_OUT)]
    return [LIME, DEFAULT, *known]


def takes_part(name: str, case: Case, masks_only: bool) -> bool:
    """Whether a method can explain this; ``masks_only`` has but hidden and shown, by one fill."""
    if name == DEFAULT:
        return True
    if name == "occlusion":
        return case.grid is not None
    method = methods.get(name)
    of_masks = method.takes == "images" and name != "rise" and "fill" not in method.fixes
    return of_masks or not masks_only


def evidence(name: str, case: Case, budget: int, seed: Any, endless: bool = False) -> Tensor:
    """The coefficients [B,K] of a method that gets ``budget`` forward passes.

    Methods that stop by themselves get no more. ``endless`` ones do not stop.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if name != DEFAULT and methods.get(name).takes == "vectors":
            return of_vectors(name, case, budget, seed)
        if name != DEFAULT and methods.get(name).takes == "label maps":
            return of_maps(name, case, budget, seed)
        found = explainer(name, case, budget, endless).explain(
            case.model, case.images, 0, segments=case.labels, max_segments=case.bound, seed=seed
        )
        return found.coefficients[:, 0].double()


def explainer(name: str, case: Case, budget: int, endless: bool = False) -> Any:
    """A method with these settings, and the case's."""
    settings: dict[str, Any] = {"chunk_size": case.chunk_size, "num_samples": budget}
    if name == DEFAULT:
        return Lime(**settings, fill=case.fill)
    method = methods.get(name)
    if "fill" not in method.fixes:
        settings["fill"] = GREY if name == "rise" else case.fill
    if endless:
        settings |= {"rounds": Once()} if "most" in method.own else {}
    elif "most" in method.own:
        settings["most"] = budget
    if name == "occlusion":
        window = tuple(2 if cells < 7 else 3 for cells in case.grid or ())
        settings |= {"grid": case.grid, "window": window}
    return method(**settings)


def of_vectors(name: str, case: Case, budget: int, seed: Any) -> Tensor:
    """Noise on every number: what hiding a segment would change, were the model linear."""
    images = case.images

    def model(vectors: Tensor) -> Tensor:
        return case.model(vectors.unflatten(1, images.shape[1:]))

    made = methods.get(name)(num_samples=budget, chunk_size=case.chunk_size)
    found = made.explain(model, images.flatten(1), 0, seed=seed)
    assert case.grid is not None
    hidden = images - SegmentMean()(images, Grid(*case.grid)(images))
    change = (found.coefficients[:, 0].unflatten(1, images.shape[1:]) * hidden).sum(1)
    one = torch.nn.functional.one_hot(case.labels, case.bound).to(change.dtype)
    return torch.einsum("bhw,hwk->bk", change, one).double()


def of_maps(name: str, case: Case, budget: int, seed: Any) -> Tensor:
    """Pairs of rows and columns of the grid first, then its cells: half the passes for each."""
    assert case.grid is not None
    rows, columns = case.grid
    coarse = torch.arange(rows)[:, None] // 2 * columns + torch.arange(columns) // 2
    coarse = coarse.unique(return_inverse=True)[1].flatten()[case.labels]
    made = methods.get(name)(num_samples=budget // 2, fill=case.fill, chunk_size=case.chunk_size)
    found = made.explain(case.model, case.images, 0, maps=[coarse, case.labels], seed=seed)
    return cell_means(found.heatmap()[:, 0], case.labels, case.bound).double()


def cell_means(heatmap: Tensor, labels: Tensor, bound: int) -> Tensor:
    """The means [B,K] of heatmaps [B,H,W] over cells."""
    one = torch.nn.functional.one_hot(labels, bound).to(heatmap.dtype)
    return torch.einsum("bhw,hwk->bk", heatmap, one) / one.sum((0, 1))
