"""What can be wrong with an explanation, and the sentence that says so."""

import enum

import torch
from torch import Tensor


class Problem(enum.IntFlag):
    """What can be wrong with an explanation of one input; the bits of ``Explanation.problems``."""

    NON_FINITE_IMAGE = 1
    SEGMENTS_NOT_CONVERGED = 2
    NON_FINITE_SCORES = 4
    TARGET_OUT_OF_RANGE = 8
    SOLVE_FAILED = 16
    TOO_FEW_EFFECTIVE_SAMPLES = 32
    FIRST_ROW_MASKED = 64
    BAD_SCALE = 128
    UNKNOWN_VALUE = 256
    NOT_SURE = 512


OF_THE_FIT = Problem.SOLVE_FAILED | Problem.TOO_FEW_EFFECTIVE_SAMPLES

REASONS = {
    Problem.NON_FINITE_IMAGE: "the {input} holds NaN or infinite values",
    Problem.SEGMENTS_NOT_CONVERGED: (
        "the segmentation did not converge, has more {parts} than its bound (max_segments), or has "
        "soft masks outside [0,1]"
    ),
    Problem.NON_FINITE_SCORES: "the model returned NaN or infinite scores",
    Problem.TARGET_OUT_OF_RANGE: (
        "a target is not a class of the model, its region is empty, or the model finds no box of "
        "it in the whole {input}"
    ),
    Problem.SOLVE_FAILED: "the surrogate could not be solved or did not converge",
    Problem.TOO_FEW_EFFECTIVE_SAMPLES: (
        "the effective {samples} are fewer than the {parts} plus one: "
        "raise num_samples, {fewer}or use a wider kernel"
    ),
    Problem.FIRST_ROW_MASKED: (
        "the sampler's first row hides a {part}, so its scores are not those of the whole {input}"
    ),
    Problem.UNKNOWN_VALUE: (
        "the {input} holds a category, or a missing value, that the background does not have"
    ),
    Problem.NOT_SURE: (
        "the coefficients are less sure than was asked: either the most samples were taken, or "
        "more samples would only repeat masks; raise most, or ask for less"
    ),
    Problem.BAD_SCALE: (
        "the scale of a feature is not a finite number above 0, or it is too small beside the "
        "feature for the dtype of the model's input: use a wider dtype, or centre the features"
    ),
}


def of_the_fit(problems: Tensor, surrogate: object) -> Tensor:
    """Problems [B] without that of too few samples, if the surrogate's ``few_samples`` is True."""
    if not getattr(surrogate, "few_samples", False):
        return problems
    return problems & ~int(Problem.TOO_FEW_EFFECTIVE_SAMPLES)


def flag(condition: Tensor, problem: Problem, others: Tensor | None = None) -> Tensor:
    """``problem`` where ``condition`` [B] holds, else 0: [B] int64; with ``others`` beside it.

    ``others`` [B] are other problems.
    """
    if others is None:
        return condition * int(problem)
    return torch.add(others, condition, alpha=int(problem))


def failed(well: dict[Problem, Tensor]) -> Tensor:
    """The problems whose condition ``well`` [B] does not hold: [B] int64."""
    (first, held), *others = ((int(problem), held) for problem, held in well.items())
    found = held * first
    for bits, held in others:
        found = torch.add(found, held, alpha=bits)
    return sum(map(int, well)) - found


def finite(values: Tensor) -> Tensor:
    """Which inputs have neither NaN nor infinite values [B,…]: [B] bool."""
    if values.device.type == "cpu" or not values.is_floating_point():  # a norm is slow on a CPU
        return (values * 0).flatten(1).sum(dim=1) == 0
    return torch.linalg.vector_norm(values.flatten(1), torch.inf, dim=1) < torch.inf


def of_images(images: Tensor, ok: Tensor, count: Tensor, design: Tensor | None) -> Tensor:
    """Flags [B] for non-finite images, segments not ``ok`` [B], and first rows that hide a segment.

    ``design`` [B,N,S] is None where the images are scored beside it.
    """
    found = failed({Problem.NON_FINITE_IMAGE: finite(images), Problem.SEGMENTS_NOT_CONVERGED: ok})
    if design is None:
        return found
    return flag(design[:, 0].sum(dim=1) != count, Problem.FIRST_ROW_MASKED, found)


def broken(values: Tensor) -> Tensor:
    """Which inputs have NaN or infinite values [B,…]: [B] bool. 0·x is NaN for these alone."""
    return (values * 0).flatten(1).sum(dim=1) != 0


def reasons_of(bits: int, words: dict[str, str], count: int) -> list[str]:
    """A sentence for each of the problems of an input of ``count`` parts, in the words of its kind.

    >>> reasons_of(32, {"samples": "samples", "parts": "words"}, 1)[0].partition(": ")[2]
    'raise num_samples, or use a wider kernel'
    """
    fewer = f"take fewer {words['parts']}, " * (count > 1)  # of one part, none can be left out
    words = {**words, "fewer": fewer}
    return [REASONS[problem].format(**words) for problem in Problem(bits)]
