"""Numbers: an explanation for JSON, and for people to read."""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchlime.explanation import Explanation
    from torchlime.models import Classifier


def numbers_of(
    explanation: "Explanation", classifier: "Classifier", strongest: int
) -> dict[str, Any]:
    """An explanation of one photo for JSON. JSON has no NaN, so None stands for it."""
    count = int(explanation.segment_count[0])
    ids, values = (top[0] for top in explanation.top(strongest))
    targets = []
    for place, index in enumerate(explanation.targets[0].tolist()):
        category = classifier.category(index)
        slug = re.sub("[^a-z0-9]+", "-", category.lower()).strip("-")
        targets.append(
            {
                "index": index,
                "category": category,
                "name": f"{index}-{slug[:40]}" if classifier.categories else str(index),
                "score": explanation.scores[0, place].item(),
                "local_prediction": explanation.local_predictions[0, place].item(),
                "fidelity": explanation.fidelity[0, place].item(),
                "intercept": explanation.intercepts[0, place].item(),
                "strongest": ids[place][values[place] != 0].tolist(),
                "coefficients": explanation.coefficients[0, place, :count].tolist(),
                "standard_errors": [
                    error if math.isfinite(error) else None
                    for error in explanation.standard_errors[0, place, :count].tolist()
                ],
            }
        )
    return {
        "segment_count": count,
        "effective_samples": explanation.effective_samples[0].item(),
        "targets": targets,
    }


def report_of(result: Mapping[str, Any], classifier: "Classifier") -> str:
    """The classes with their scores, the strongest segments of the drawn ones, and the files."""
    lines = [
        f"{classifier.spell(target['score']):>7}  {target['category']}"
        for target in result["targets"]
    ]
    for target in result["targets"]:
        if "picture" not in target:
            continue
        lines.append(
            f"\nwhat speaks for and against {target['category']!r} ({result['segment_count']} "
            f"segments, fidelity {target['fidelity']:.2f}):"
        )
        for rank, segment in enumerate(target["strongest"], start=1):
            error = target["standard_errors"][segment]
            margin = "" if error is None else f" ± {1.96 * error:.3g}"
            value = target["coefficients"][segment]
            lines.append(f"{rank:3}. segment {segment:3}  {value:+.3g}{margin}")
        lines.append(f"wrote {target['picture']}")
    if "saved" in result:
        lines.append(f"wrote {result['saved']}")
    return "\n".join(lines)
