"""Explanations from coarse to fine: the strongest segments are divided and explained again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
from torch import Tensor

from torchlime._checks import check_count
from torchlime._inputs import Array, Images, as_images
from torchlime._labelmap import Segments, as_segments
from torchlime._settings import Settings
from torchlime._undisturbed import undisturbed
from torchlime.black_box import Model, Progress
from torchlime.explanation import Explanation
from torchlime.lime import Lime
from torchlime.methods._registry import STRATEGIES, MethodSettings, check_free, recipe
from torchlime.methods.regressions import lime
from torchlime.targets import Targets


@dataclass(frozen=True, kw_only=True, eq=False)
class Hierarchy(Settings):
    """Explain by the first label map; then divide the strongest segments by the next one.

    At each further level, the next map divides the ``strongest`` segments with evidence for the
    first target. All other segments stay as they are, and everything is explained again. So a call
    makes one explanation for each map.

    Convention:
        A segment of a level is a segment of the level before, or an id of the level's own map
        within those that were divided. The ids of a result are columns: the segments of the
        previous map come first, then the segments of the map itself. Background of a map stays in
        its segment. Nothing is read back, so the bound grows by the bound of each map.

    Args:
        explainer: makes the explanation of each level.
        strongest: how many segments are divided at each level.

    Example:
        >>> from torchlime.fills import Constant
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[..., :2, :2] = torch.tensor([[4.0, 0.0], [0.0, 0.0]])
        >>> halves, pixels = torch.tensor([0, 0, 1, 1]).expand(4, 4), torch.arange(16).view(4, 4)
        >>> hierarchy = Hierarchy(explainer=Lime(fill=Constant(0.0), num_samples=64), strongest=1)
        >>> e = hierarchy.explain(lambda x: x.sum((2, 3)), image, maps=[halves, pixels])
        >>> e.segment_count.tolist(), e.mask(1)[0, 0].nonzero().tolist()
        ([9], [[0, 0]])
    """

    explainer: Lime
    strongest: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.explainer, Lime):
            raise TypeError(f"explainer must be a Lime(...), got {self.explainer!r}")
        check_count(self.strongest, "strongest")

    def explain(
        self,
        model: Model,
        images: Images,
        targets: Targets = None,
        *,
        maps: Sequence[Segments | Tensor | Array],
        progress: Progress | None = None,
        **call: Any,
    ) -> Explanation:
        """The explanation of the last level.

        Args:
            maps: label maps from coarse to fine, each as ``segments`` of
                :meth:`torchlime.Lime.explain`. On a GPU, pass Segments, because their bound is
                known.
            model, images, targets, progress, **call: as for :meth:`torchlime.Lime.explain`.

        Raises:
            TypeError: ``maps`` is no list or tuple, or ``segments`` are given too.
            ValueError: there is no map; or as for :meth:`torchlime.Lime.explain`.
        """
        if not isinstance(maps, list | tuple):
            raise TypeError(
                "maps must be a list of label maps, from coarse to fine, got "
                f"{type(maps).__name__}; put a single map into a list"
            )
        if "segments" in call:
            raise TypeError("segments are the first of the maps here; leave segments= out")
        if not maps:
            raise ValueError("maps must hold at least one label map, from coarse to fine")
        inputs = as_images(images, model)
        with undisturbed(inputs.device):
            levels = [as_segments(one, inputs) for one in maps]
        segments, found = levels[0], None
        for level in (None, *levels[1:]):
            if level is not None and found is not None:
                with undisturbed(inputs.device):
                    segments = _divided(segments, level, found.mask(self.strongest)[:, 0])
            found = self.explainer.explain(
                model, inputs, targets, segments=segments, progress=progress, **call
            )
        assert found is not None
        return found


def _divided(segments: Segments, level: Segments, chosen: Tensor) -> Segments:
    """Segments in which ``chosen`` pixels [B,H,W] have new ids, those of the level."""
    axes = chosen.shape
    own, new = segments.labels.expand(axes), level.labels.expand(axes)
    labels = torch.where(chosen & (new >= 0), segments.bound + new, own)
    found = as_segments(labels, chosen[:, None].float(), segments.bound + level.bound)
    return found._replace(ok=found.ok & segments.ok & level.ok)


@recipe(
    "Knab, Marton & Bartelt 2025, Beyond Pixels: Enhancing LIME with Hierarchical Features and "
    "Segmentation Foundation Models",
    "the caller gives the label maps, from coarse to fine; the paper takes them from a foundation "
    "model and builds the hierarchy from its masks.",
    takes="label maps",
)
def dseg(strongest: int = 3, **settings: Unpack[MethodSettings]) -> Hierarchy:
    """LIME on given segments, of which the strongest are divided and explained again.

    ``dseg().explain(model, images, maps=[coarse, fine])`` explains. It takes no ``segmenter``,
    since the segments are those of the maps.
    """
    plain = lime()
    free = MethodSettings.__annotations__.keys() - {"segmenter"}
    check_free("dseg", settings, {name: getattr(plain, name) for name in STRATEGIES}, free)
    return Hierarchy(explainer=lime(**settings), strongest=strongest)
