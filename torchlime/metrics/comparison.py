"""Several metrics of several explanations, side by side."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchlime._inputs import Inputs, as_inputs
from torchlime._several import is_several, leaves_of
from torchlime._softmap import is_soft
from torchlime.black_box import Model
from torchlime.explanation import Explanation
from torchlime.fills import Blur, ImageMean
from torchlime.lime import AnyFill
from torchlime.metrics._shared import segments_of
from torchlime.metrics.evidence import AnyEvidence, as_heatmap
from torchlime.metrics.faithfulness import deletion, insertion
from torchlime.metrics.placement import pointing_game, rank_inside, share_inside
from torchlime.metrics.removal import (
    faithfulness_correlation,
    faithfulness_estimate,
    infidelity,
    monotonicity,
    sensitivity_n,
)
from torchlime.metrics.road import road
from torchlime.segments import Grid

Metric = Callable[[Model, Any, AnyEvidence], Tensor]
CELLS = 7
_BETTER = dict.fromkeys(("deletion", "infidelity", "road_morf"), "↓") | dict.fromkeys(
    (
        "insertion", "sensitivity_n", "faithfulness_correlation", "faithfulness_estimate",
        "monotonicity", "road_lerf", "share_inside", "rank_inside", "pointing_game",
    ),
    "↑",
)  # fmt: skip
_PLACED = {"share_inside": share_inside, "rank_inside": rank_inside, "pointing_game": pointing_game}


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result of :func:`compare`. It prints as a table of means over images and targets.

    Attributes:
        values: explanation → metric → [B,T], on the device.
    """

    values: dict[str, dict[str, Tensor]]

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics, in their order."""
        return list(next(iter(self.values.values())))

    def means(self) -> Tensor:
        """[explanations, metrics]: the mean over images and targets, without NaN."""
        return torch.stack([
            torch.stack([found[name].double().nanmean() for name in self.metrics])
            for found in self.values.values()
        ])  # fmt: skip

    def records(self) -> list[dict[str, Any]]:
        """A dict for each explanation, metric, image and target. Reads the values on the host.

        The keys are "explanation", "metric", "image", "target" (its place among the targets) and
        "value", as ``pandas.DataFrame(…)`` takes them.
        """
        return [
            {"explanation": who, "metric": what, "image": b, "target": t, "value": value}
            for who, found in self.values.items()
            for what, values in found.items()
            for b, row in enumerate(values.tolist())  # read back: the caller asks
            for t, value in enumerate(row)
        ]

    def __repr__(self) -> str:
        """A table with a row for each metric; it reads the means on the host."""
        numbers = self.means().T.tolist()  # read back: for people
        rows = [["", *self.values]]
        for name, means in zip(self.metrics, numbers, strict=True):
            rows.append([f"{name} {_BETTER.get(name, '')}", *(f"{mean:.4g}" for mean in means)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
        return "\n".join("  ".join(line).rstrip() for line in lines)


def compare(
    explanations: Mapping[str, AnyEvidence],
    model: Model,
    images: Inputs,
    *,
    metrics: Sequence[str] | Mapping[str, Metric] | None = None,
    inside: Tensor | None = None,
    segments: Any = None,
    fill: AnyFill | None = None,
    blurred: AnyFill | None = None,
    num_samples: int = 100,
    seed: int = 0,
) -> Comparison:
    """Several metrics on several explanations of the same images, under the same conditions.

    All of them are measured with the same fill, the same random sets and, for heatmaps, the same
    segments. Explanations keep their own segments. If the number of segments matters, make all
    explanations on one label map.

    Convention:
        In the printed table, ↓ marks metrics for which a lower value is better, and ↑ those for
        which a higher value is better. Heatmaps without targets are measured on the targets of the
        first Explanation; without an Explanation, on the best class of each image. Heatmaps without
        segments take ``segments``; without these, the segments of the first Explanation; without
        both, a grid of 7×7 cells.

    Args:
        explanations: name → Explanation, :class:`Heatmap` or tensor [B,H,W].
        model, images: as for :func:`torchlime.metrics.deletion`.
        metrics: a list of the names below; or a dict of name → function (model, images,
            explanation) → [B,T]. None = all names below; the last three need ``inside``. deletion,
            insertion (from ``blurred``), infidelity (scaled), sensitivity_n,
            faithfulness_correlation, faithfulness_estimate, monotonicity, road_morf, road_lerf
            (images [B,C,H,W] with one label map only); share_inside, rank_inside, pointing_game.
        inside: the object's pixels, [B,H,W] or [H,W] bool.
        segments: a label map for heatmaps that have none.
        fill: what a hidden segment shows, in all explanations; None = ``ImageMean()``.
        blurred: what insertion starts from; None = ``Blur(5.0)``, as in RISE.
        num_samples: the number of random sets of each size.
        seed: the seed of the random sets.

    Raises:
        TypeError, ValueError: an explanation or the name of a metric is unknown or does not fit, or
            as the metrics themselves.

    Example:
        >>> from torchlime import explain, segments
        >>> image = torch.rand(1, 3, 14, 14)
        >>> def model(x):
        ...     return x[..., :7, :7].mean((2, 3))
        >>> e = explain(model, image, 0, segmenter=segments.Grid(7, 7))
        >>> both = {"lime": e, "brightness": image[:, 0]}
        >>> table = compare(both, model, image, metrics=["deletion"])
        >>> sorted(table.records()[0]), table.means().shape
        (['explanation', 'image', 'metric', 'target', 'value'], torch.Size([2, 1]))
    """
    if not isinstance(explanations, Mapping) or not explanations:
        raise TypeError(
            'explanations must be a dict such as {"lime": explanation, "gradcam": heatmap}, got '
            f"{type(explanations).__name__}"
        )
    inputs = as_inputs(images, model)
    if isinstance(metrics, Mapping):
        chosen = dict(metrics)
    else:
        fills = (ImageMean() if fill is None else fill, Blur(5.0) if blurred is None else blurred)
        known = _known(inputs, inside, *fills, num_samples, seed)
        if not all(_one_map(e) for e in explanations.values() if isinstance(e, Explanation)):
            known = {name: metric for name, metric in known.items() if "road" not in name}
        chosen = known if metrics is None else _picked(known, metrics)
    ready = _completed(explanations, inputs, segments)
    return Comparison({
        who: {what: metric(model, inputs, evidence) for what, metric in chosen.items()}
        for who, evidence in ready.items()
    })  # fmt: skip


def _known(
    inputs: Any, inside: Tensor | None, fill: Any, blurred: Any, num_samples: int, seed: int
) -> dict[str, Metric]:
    """The metrics that these inputs allow, by name."""
    settings: dict[str, Any] = {"fill": fill}
    drawn = {**settings, "num_samples": num_samples, "seed": seed}
    with_settings: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
        "deletion": (deletion, settings),
        "insertion": (insertion, {"fill": blurred}),
        "infidelity": (infidelity, {**drawn, "scaled": True}),
        "sensitivity_n": (sensitivity_n, drawn),
        "faithfulness_correlation": (faithfulness_correlation, drawn),
        "faithfulness_estimate": (faithfulness_estimate, settings),
        "monotonicity": (monotonicity, settings),
    }
    if not is_several(inputs) and inputs.dim() == 4:
        with_settings["road_morf"] = (road, {"seed": seed})
        with_settings["road_lerf"] = (road, {"seed": seed, "order": "lerf"})
    found: dict[str, Metric] = {n: _with(*call) for n, call in with_settings.items()}
    if inside is not None:
        for name, metric in _PLACED.items():
            found[name] = _placed(metric, inside)
    return found


def _with(metric: Callable[..., Tensor], settings: dict[str, Any]) -> Metric:
    return lambda model, images, evidence: metric(model, images, evidence, **settings)


def _placed(metric: Callable[..., Tensor], inside: Tensor) -> Metric:
    return lambda model, images, evidence: metric(evidence, inside)


def _one_map(explanation: Explanation) -> bool:
    """Whether an explanation has one label map [B,H,W], as :func:`road` needs."""
    labels = explanation.segments
    return isinstance(labels, Tensor) and labels.dim() == 3 and not is_soft(labels)


def _picked(known: dict[str, Metric], names: Sequence[str]) -> dict[str, Metric]:
    if isinstance(names, str):
        raise TypeError(f"metrics must be a list of names, got the str {names!r}")
    for name in names:
        if name not in known:
            if name in _PLACED:
                raise ValueError(f"the metric {name!r} needs inside=")
            raise ValueError(f"metrics of these inputs are {list(known)}, got {name!r}")
    if not names:
        raise ValueError("metrics must name at least one metric")
    return {name: known[name] for name in names}


def _completed(
    explanations: Mapping[str, AnyEvidence], inputs: Any, segments: Any
) -> dict[str, AnyEvidence]:
    """The explanations; heatmaps get targets and segments."""
    first = next((e for e in explanations.values() if isinstance(e, Explanation)), None)
    ready: dict[str, AnyEvidence] = {}
    for name, given in explanations.items():
        if isinstance(given, Explanation):
            ready[name] = given
            continue
        try:
            heatmap = as_heatmap(given)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from error
        changes: dict[str, Any] = {}
        if heatmap.segments is None:
            changes["segments"] = _common(first, inputs) if segments is None else segments
        if heatmap.targets is None and first is not None:
            changes["targets"] = first.explained if first.explained is not None else first.targets
        ready[name] = dataclasses.replace(heatmap, **changes)
    return ready


def _common(first: Explanation | None, inputs: Any) -> Any:
    """The segments of an explanation, or a grid."""
    if first is not None and not is_several(first.segments) and not is_soft(first.segments):
        return segments_of(first)
    image = leaves_of(inputs)[0]
    return Grid(*(min(CELLS, side) for side in image.shape[2:]))(image)
