"""Explaining: what the page does when somebody presses a button, without the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from torchlime import Lime, metrics
from torchlime.app.classifiers import Models, answer_of
from torchlime.app.explained import Explained
from torchlime.app.photos import Prepared
from torchlime.app.words import stability_in_words
from torchlime.black_box import Progress
from torchlime.cli.options import explainer_of, meaning_of, words_of
from torchlime.server import WORK

RANGES = {"segments": (5, 200), "samples": (32, 2048), "seed": (0, 999_999)}


def explainer_with(choices: Mapping[str, Any]) -> Lime:
    """The explainer for some of the command line's options, given in its words.

    Raises:
        ValueError: an option is not understood, out of :data:`RANGES`, or conflicts with another.

    >>> explainer_with({"segments": 20, "fill": "#ff0000"}).fill
    Constant(value=(1.0, 0.0, 0.0))
    """
    for name, (least, most) in RANGES.items():
        if not least <= choices.get(name, least) <= most:
            raise ValueError(f"{name} must be {least} to {most}, got {choices[name]}")
    samples, segments = choices.get("samples"), choices.get("segments")
    if samples is not None and segments is not None and samples <= segments:
        raise ValueError(f"{samples} samples are too few for {segments} segments")
    return explainer_of(meaning_of(words_of(choices, None)))


def explain(
    known: Models,
    model: str,
    photo: Prepared,
    targets: Sequence[int] | None,
    explainer: Lime,
    progress: Progress | None = None,
) -> Explained:
    """Explain a photo's ``targets``, or the best class; other callers wait until it is done.

    Raises:
        RuntimeError: the explanation is not to be trusted, or the server stops.
    """
    pixels, step = photo.pixels, WORK.stepping(progress)
    wanted = None if targets is None else torch.tensor([list(targets)], device=pixels.device)
    with known.use(model, lambda: step(0, explainer.num_samples)) as classifier:
        explanation = explainer.explain(classifier, pixels, wanted, progress=step)
        explanation = explanation.to("cpu").check()
    scores = zip(explanation.targets[0].tolist(), explanation.scores[0].tolist(), strict=True)
    explained = [answer_of(classifier, *pair) for pair in scores]
    return Explained(
        explanation, explainer, photo, explained, classifier.unit, model, known.weights[model],
        known.device,
    )  # fmt: skip


def stability(known: Models, explained: Explained, progress: Progress | None = None) -> list[str]:
    """How similar the explanation is with the next seed: a sentence for each target."""
    explanation, pixels = explained.explanation, explained.photo.pixels
    step = WORK.stepping(progress)
    with known.use(explained.model, lambda: step(0, explained.explainer.num_samples)) as classifier:
        second = explained.explainer.explain(
            classifier, pixels, explanation.targets.to(pixels.device),
            seed=explained.explainer.seed + 1, progress=step,
        ).to("cpu").check()  # fmt: skip
    both = [explanation, second]
    return [
        stability_in_words(*pair)
        for pair in zip(
            metrics.rank_correlation(both)[0].tolist(),
            metrics.overlap(both)[0].tolist(),
            strict=True,
        )
    ]
