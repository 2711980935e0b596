"""Numbers: an explanation for JSON, and for people to read."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torchlime._errors import printable
from torchlime._reading import output_name, samples_in_words, with_fidelity

if TYPE_CHECKING:
    from torchlime._reading import Categories
    from torchlime.explanation import Explanation
    from torchlime.models import Classifier


class Classes(Protocol):
    """What knows the names of classes: a Classifier, or an Explanation."""

    @property
    def categories(self) -> "Categories | None":
        """The names, where they are known."""
        ...

    def category(self, target: int, /) -> str:
        """The name of a class."""
        ...


def numbers_of(
    explanation: "Explanation", classifier: "Classifier", strongest: int
) -> dict[str, Any]:
    """An explanation of one photo for JSON. JSON has no NaN, so None stands for it."""
    return {
        "segment_count": int(explanation.segment_count[0]),
        "effective_samples": explanation.effective_samples[0].item(),
        **_samples_of(explanation),
        "targets": _targets_of(explanation, classifier, strongest),
    }


def named_numbers_of(explanation: "Explanation", strongest: int) -> dict[str, Any]:
    """An explanation of one row or text for JSON, with the names of its features.

    ``strongest`` are places among the features. The unit is that of the scores.
    """
    return {
        "features": (explanation.names() or [[]])[0],
        "unit": explanation.unit,
        "effective_samples": explanation.effective_samples[0].item(),
        **_samples_of(explanation),
        "targets": _targets_of(explanation, _Outputs(explanation), strongest),
    }


def _sure_of(explanation: "Explanation") -> list[bool | None]:
    """Whether each target is as sure as was asked; None where nothing was asked for it."""
    sure, targets = bool(explanation.sure[0]), explanation.targets.shape[1]
    first = getattr(getattr(explanation.explainer, "rounds", None), "first", targets)
    return [sure if place < first else None for place in range(targets)]


def _samples_of(explanation: "Explanation") -> dict[str, Any]:
    used = explanation.samples_used
    return {
        "samples_used": None if used is None else int(used[0]),
        "sure": bool(explanation.sure[0]),
    }


@dataclass(frozen=True)
class _Outputs:
    """The names of the outputs that an explanation is of."""

    explanation: "Explanation"

    @property
    def categories(self) -> "Categories | None":
        return self.explanation.categories

    def category(self, target: int) -> str:
        return output_name(self.explanation, target)


def _targets_of(
    explanation: "Explanation", classes: Classes, strongest: int
) -> list[dict[str, Any]]:
    count, sure = int(explanation.segment_count[0]), _sure_of(explanation)
    ids, values = (top[0] for top in explanation.top(strongest))
    targets = []
    for place, index in enumerate(explanation.targets[0].tolist()):
        category = classes.category(index)
        slug = re.sub("[^a-z0-9]+", "-", category.lower()).strip("-")
        targets.append(
            {
                "index": index,
                "category": category,
                "name": f"{index}-{slug[:40]}" if classes.categories else str(index),
                "score": explanation.scores[0, place].item(),
                "local_prediction": explanation.local_predictions[0, place].item(),
                "fidelity": _finite(explanation.fidelity[0, place].item()),
                "sure": sure[place],
                "intercept": explanation.intercepts[0, place].item(),
                "strongest": ids[place][values[place] != 0].tolist(),
                "coefficients": explanation.coefficients[0, place, :count].tolist(),
                "standard_errors": [
                    _finite(error)
                    for error in explanation.standard_errors[0, place, :count].tolist()
                ],
            }
        )
    return targets


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def line_of(result: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    """A target of a row or a text in one line: its score, and its strongest features."""
    features, coefficients = result["features"], target["coefficients"]
    strongest = ", ".join(
        f"{printable(features[place])} {coefficients[place]:+.3g}" for place in target["strongest"]
    )
    score = spelled(target["score"], result["unit"])
    line = f"{score} {class_name(target['category'])}: {strongest or 'nothing changes it'}"
    if result.get("sure", True):
        return line
    return f"{line} ({samples_in_words(result['samples_used'], sure=False)})"


def class_name(category: str) -> str:
    """A class for people to read; a number says that it is a class.

    >>> class_name("7"), class_name("setosa")
    ('class 7', 'setosa')
    """
    return f"class {category}" if category.isdecimal() else printable(category)


def spelled(score: float, unit: str) -> str:
    """A score in words: "38.3%" for a probability, else four digits.

    >>> spelled(0.383, "probability"), spelled(12.3456, "score")
    ('38.3%', '12.35')
    """
    return f"{score:.1%}" if unit == "probability" else f"{score:.4g}"


def report_of(result: Mapping[str, Any], classifier: "Classifier") -> str:
    """The classes with their scores, the strongest segments of the drawn ones, and the files."""
    lines = [
        f"{classifier.spell(target['score']):>7}  {target['category']}"
        for target in result["targets"]
    ]
    samples = samples_in_words(result["samples_used"], sure=result["sure"])
    for target in result["targets"]:
        if "picture" not in target:
            continue
        count = result["segment_count"]
        how = with_fidelity(f"{count} segment{'s' * (count > 1)}", target["fidelity"])
        lines.append(f"\nwhat speaks for and against {target['category']!r} ({how}, {samples}):")
        for rank, segment in enumerate(target["strongest"], start=1):
            error = target["standard_errors"][segment]
            margin = "" if error is None else f" ± {1.96 * error:.3g}"
            value = target["coefficients"][segment]
            lines.append(f"{rank:3}. segment {segment:3}  {value:+.3g}{margin}")
        lines.append(f"wrote {target['picture']}")
    if "saved" in result:
        lines.append(f"wrote {result['saved']}")
    return "\n".join(lines)
