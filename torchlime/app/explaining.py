"""Explaining: what the page does when somebody presses a button, without the page."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from torchlime import Lime, Rise, methods, metrics
from torchlime._taking import stops_early
from torchlime.app.classifiers import Models, answer_of
from torchlime.app.explained import Made
from torchlime.app.photos import Prepared
from torchlime.app.words import stability_in_words
from torchlime.black_box import Progress
from torchlime.cli.meanings import SAMPLERS, SURROGATES
from torchlime.cli.options import explainer_of, meaning_of, words_of
from torchlime.methods import Method
from torchlime.models import Classifier
from torchlime.rounds import Once, Until
from torchlime.server import WORK

METHODS = [name for name in methods.names() if methods.get(name).takes == "images"]
RANGES = {"segments": (5, 200), "samples": (32, 2048), "seed": (0, 999_999)}
SECONDS_BETWEEN = 0.2  # between two calls of the progress within a forward pass


def explainer_with(choices: Mapping[str, Any]) -> Lime | Rise:
    """The explainer for some of the command line's options, given in its words.

    Raises:
        ValueError: an option is not understood, out of :data:`RANGES`, or conflicts with another.

    >>> explainer_with({"segments": 20, "fill": "#ff0000"}).fill
    Constant(value=(1.0, 0.0, 0.0))
    """
    for name, (least, most) in RANGES.items():
        if not least <= choices.get(name, least) <= most:
            raise ValueError(f"{name} must be {least} to {most}, got {choices[name]}")
    if choices.get("until") is not None:
        choices = {name: value for name, value in choices.items() if name != "samples"}
    samples, segments = choices.get("samples"), choices.get("segments")
    method = choices.get("method")
    if method is not None:
        choices = free_in(methods.get(method), choices)
        return explainer_of(meaning_of(words_of(choices, None)))
    both = samples is not None and segments is not None
    if both and int(samples or 0) <= int(segments or 0):
        raise ValueError(f"{samples} samples are too few for {segments} segments")
    return explainer_of(meaning_of(words_of(choices, None)))


def free_in(method: Method, choices: Mapping[str, Any]) -> dict[str, Any]:
    """The choices that a method leaves free; the page always makes all of them.

    If the page's fill is the mean colour, the method's own fill is used.

    >>> free_in(methods.get("banzhaf"), {"sampler": "bernoulli", "fill": "mean", "seed": 2})
    {'seed': 2}
    """
    fixed = fixed_in(method) | ({"fill"} if choices.get("fill") == "mean" else set())
    return {name: value for name, value in choices.items() if name not in fixed}


def fixed_in(method: Method | None) -> set[str]:
    """The choices that a method makes itself, so that the page cannot offer them.

    The number of samples is one of them if the method scores a fixed list of masks, or has its own
    stop rule.

    >>> sorted(fixed_in(methods.get("occlusion")) - {"sampler", "kernel", "surrogate"})
    ['most-samples', 'samples', 'segmenter', 'segments', 'until']
    >>> "samples" in fixed_in(methods.get("bayeslime")), "samples" in fixed_in(methods.get("rise"))
    (True, False)
    """
    if method is None:
        return set()
    fixed = {"sampler", "kernel", "surrogate"}
    fixed |= {"segments", "segmenter"} if "segmenter" in method.fixes else set()
    fixed |= {"until", "most-samples"} if "rounds" in method.fixes else set()
    fixed |= {"fill"} if "fill" in method.fixes else set()
    finite = not getattr(method().sampler, "endless", True)
    return fixed | ({"samples"} if finite or "most" in method.own else set())


def stops(method: str | None, sampler: str, surrogate: str) -> bool:
    """Whether an explainer with these choices knows its error, and has no rule of its own.

    >>> stops(None, "orthogonal", "ridge"), stops(None, "bernoulli", "lasso"), stops("rise", "", "")
    (True, False, False)
    """
    if method is None:
        return stops_early(SAMPLERS[sampler](), SURROGATES[surrogate]())
    recipe = methods.get(method)
    if "rounds" in recipe.fixes:
        return False
    own = recipe()
    if isinstance(own.rounds, Until) and own.rounds.error is None:
        return False  # its own rule is a part of the method
    return stops_early(own.sampler, own.surrogate)


def explain(
    known: Models,
    model: str,
    photo: Prepared,
    targets: Sequence[int] | None,
    explainer: Lime | Rise,
    progress: Progress | None = None,
) -> Made:
    """Explain a photo's ``targets``, or the best class; other callers wait until it is done.

    Raises:
        RuntimeError: the explanation is not to be trusted, or the server stops.
    """
    pixels = photo.pixels
    wanted = None if targets is None else torch.tensor([list(targets)], device=pixels.device)
    with _in_use(known, model, explainer, progress) as (classifier, step):
        explanation = explainer.explain(classifier, pixels, wanted, progress=step)
        explanation = explanation.to("cpu").check(sure=False)
    scores = zip(explanation.targets[0].tolist(), explanation.scores[0].tolist(), strict=True)
    explained = [answer_of(classifier, *pair) for pair in scores]
    return Made(
        explanation, photo, explained, classifier.unit, explainer, model, known.weights[model],
        known.device,
    )  # fmt: skip


def stability(known: Models, explained: Made, progress: Progress | None = None) -> list[str]:
    """How similar the explanation is with the next seed: a sentence for each target."""
    explanation, explainer = explained.explanation, explained.explainer
    pixels = explained.photo.pixels
    with _in_use(known, explained.model, explainer, progress) as (classifier, step):
        second = explainer.explain(
            classifier, pixels, explanation.targets.to(pixels.device),
            seed=explainer.seed + 1, progress=step,
        ).to("cpu").check(sure=False)  # fmt: skip
    both = [explanation, second]
    return [
        stability_in_words(*pair)
        for pair in zip(
            metrics.rank_correlation(both)[0].tolist(),
            metrics.overlap(both)[0].tolist(),
            strict=True,
        )
    ]


@contextmanager
def _in_use(
    known: Models, model: str, explainer: Lime | Rise, progress: Progress | None
) -> Iterator[tuple[Classifier, Progress]]:
    """A classifier for this thread alone, and a progress for its explanation.

    ``progress`` is also called while another thread uses a classifier, and within a forward pass.
    Whatever it raises ends the wait or the pass.
    """
    beside = int(getattr(explainer.sampler, "beside", False))
    rounds = getattr(explainer, "rounds", Once())
    told = [(0, sum(rounds.sizes(explainer.num_samples)) + beside)]
    step = WORK.stepping(progress)

    def chunk(done: int, total: int) -> None:
        told[0] = done, total
        step(done, total)

    with known.use(model, lambda: step(*told[0])) as classifier:
        if _compiled(classifier):  # inside a mode, torch would not use the compiled code
            yield classifier, chunk
            return
        with _Between(lambda: step(*told[0])):
            yield classifier, chunk


def _compiled(network: nn.Module) -> bool:
    return any(
        hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None
        for part in network.modules()
    )


class _Between(TorchDispatchMode):
    """Calls a function between two operators of this thread, a few times a second.

    A chunk may take many seconds. A mode changes no number. Hooks on modules do: with them, some
    networks leave their fast path.
    """

    def __init__(self, check: Callable[[], object]) -> None:
        super().__init__()
        self._check = check
        self._last = time.monotonic()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN:
            self._last = now
            self._check()
        return function(*args, **(kwargs or {}))
