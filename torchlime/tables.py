"""LIME of tables: rows of numbers and words, compared with training data."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from torchlime._checks import check_callables, check_count, is_integer
from torchlime._estimator import Estimator, as_scores
from torchlime._inputs import Array, device_of_networks
from torchlime._names import BinNames
from torchlime._resuming import check_settings, made_by
from torchlime._row_by_row import fit_in_groups, groups_of
from torchlime._settings import Settings, check_keywords
from torchlime._taking import check_rounds_setting
from torchlime._undisturbed import undisturbed
from torchlime.background import Background
from torchlime.black_box import Forward, Model, Progress
from torchlime.explanation import Explanation
from torchlime.features import Table
from torchlime.local import Samples, local_fit, local_samples
from torchlime.rounds import Once
from torchlime.strategies import Kernel, Rounds, Surrogate
from torchlime.surrogates import Ridge
from torchlime.targets import Classes, Targets, scores_of, words_of_scores
from torchlime.weights import Exponential

Row = Tensor | Array | Any  # a DataFrame, a Series


@dataclass(frozen=True, kw_only=True, eq=False)
class TableLime(Settings):
    """The settings of an explanation of a table's rows; :meth:`explain` runs it.

    Samples are drawn from the background. For each feature, a bin is drawn with its frequency in
    the training data, and then a value within the bin. With bins, the surrogate is fitted to
    whether a sample is in the bin of the row. A coefficient says how much higher the score is in
    that bin. With ``Background.of(bins=None)`` numbers stay numbers, and a coefficient is the
    change of the score per unit of the feature.

    The samples do not depend on the row, so all rows share one draw. The model scores N − 1 + B
    rows (N + B without bins) instead of N·B, and explanations of several rows can be compared.

    Args:
        background: what the rows are compared with, see :meth:`torchlime.background.Background.of`.
        num_samples: N, the number of samples of each row (with bins, the row itself is one of
            them).
        around: draw numbers around those of the row, not around the mean of the background. It
            needs a background without bins.
        kernel: design → proximity weights; None = ``Exponential(0.75·√F, "euclidean")``, which is
            lime's rule for tables.
        surrogate: design, scores, weights → Fit.
        frames: the model takes DataFrames like the background's data. None = True for an estimator
            if the background was made from a DataFrame. Any other callable takes tensors [n,C], in
            which a word is its number among the words of its column.
        rounds: ``Once()``, or ``Until(error=0.25)``: see :mod:`torchlime.rounds`.
        chunk_size: the largest number of rows of a forward pass; None = as many as hold a million
            entries, within 64 to 4096.
        exact_chunks: give every forward pass exactly ``chunk_size`` rows, for engines of a fixed
            batch.
        autocast: torch.bfloat16 or torch.float16 for the forward passes; None keeps the caller's
            setting.
        seed: the seed of the samples; an int.

    Raises:
        TypeError, ValueError: a setting is unknown, of the wrong type or out of range.

    Source: Ribeiro et al. 2016, ``lime.lime_tabular``. lime draws new samples for every row.

    Example:
        >>> data = torch.tensor([[20.0, 0], [30, 1], [40, 1], [50, 1]])
        >>> explainer = TableLime(background=Background.of(data, names=["age", "member"]))
        >>> model = lambda x: (x[:, 0] > 35).double() + x[:, 1]
        >>> explanation = explainer.explain(model, torch.tensor([[50.0, 0.0]])).check()
        >>> [name for name, _ in explanation.as_list()]
        ['member=0', 'age > 42.50']
    """

    background: Background
    num_samples: int = 5000
    around: bool = False
    kernel: Kernel | None = None
    surrogate: Surrogate = Ridge(alpha=1.0)
    frames: bool | None = None
    rounds: Rounds = Once()
    chunk_size: int | None = None
    exact_chunks: bool = False
    autocast: torch.dtype | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.background, Background):
            raise TypeError(
                "background must be Background.of(training data), got "
                f"{type(self.background).__name__}"
            )
        check_count(self.num_samples, "num_samples", 2)
        if not is_integer(self.seed):
            raise TypeError(
                f"seed must be an int, got {type(self.seed).__name__}; "
                "seeds for each row go to explain(seed=)"
            )
        if self.around and self.background.binned:
            raise ValueError(
                "around=True moves numbers, and the background has bins: make it with "
                "Background.of(..., bins=None)"
            )
        Forward.of(self)
        check_rounds_setting(self.rounds, self.surrogate)
        check_callables(kernel=self.kernel or Exponential(), surrogate=self.surrogate)

    def explain(
        self,
        model: Any,
        x: Row,
        targets: Targets = None,
        *,
        top: int = 1,
        seed: int | Tensor | None = None,
        differentiable: bool = False,
        keep_samples: bool = False,
        resume: Explanation | None = None,
        progress: Progress | None = None,
    ) -> Explanation:
        """Explain what ``model`` makes of each of the rows ``x``.

        Args:
            model: any callable [n,C] → [n,classes] or [n], or an object with such ``.logits``; or
                an estimator with ``predict_proba`` or ``predict``, or one of these methods. An
                estimator runs on the host.
            x: rows of the background's table: a DataFrame, a Series, an array or a tensor [B,C]
                float. Words of a tensor are numbers, see :meth:`Background.rows`.
            targets, top, differentiable, keep_samples, resume, progress: as for
                :meth:`torchlime.Lime.explain`.
            seed: used instead of the explainer's seed; an int64 tensor [B] gives each row its own
                draw, and the model then scores N·B rows.

        Returns:
            Explanation: its ``names()`` are the bins: "2.00 < age <= 3.00", "sex=female".

        Raises:
            TypeError, ValueError, IndexError: an argument, or the model's output, is of the wrong
                type, shape or range; a row has other columns, or a category that the background
                lacks. Problems that only the device knows are in ``problems``.
            torch.OutOfMemoryError: not even a single row fits into a forward pass.
        """
        check_settings(resume, self)
        forward = Forward.of(self, differentiable=differentiable, progress=progress)
        seed = self.seed if seed is None else seed
        model, x = self._model_and_rows(model, x)
        scores = scores_of(targets, top, len(x), x.device, "x is")
        with undisturbed(x.device):
            features = Table(self.background, x, seed, self.around)
        kernel = self._kernel()
        fit: dict[str, Any] = {
            "num_samples": int(self.num_samples), "kernel": kernel, "surrogate": self.surrogate,
            "forward": forward,
        }  # fmt: skip
        groups = groups_of(features, int(self.num_samples))
        whole = len(groups) == 1 or keep_samples or differentiable or not features.shared
        whole = whole or self.rounds != Once() or resume is not None
        if whole or not isinstance(scores, Classes):
            explanation = local_fit(
                model, features, scores, sampler=features.sampler, seed=seed,
                keep_samples=keep_samples, rounds=self.rounds, resume=resume, **fit,
            )  # fmt: skip
        else:
            explanation = fit_in_groups(model, features, scores, groups, **fit)
        used = dataclasses.replace(self, kernel=kernel)
        explanation = dataclasses.replace(explanation, named=_names(self.background))
        return made_by(explanation, used, seed, resume, **words_of_scores(scores))

    def samples(
        self,
        model: Any,
        x: Row,
        targets: Targets = None,
        *,
        top: int = 1,
        seed: int | Tensor | None = None,
        progress: Progress | None = None,
    ) -> Samples:
        """The samples that :meth:`explain` would fit: design, scores and weights.

        Arguments, guarantees and errors are those of :meth:`explain`.
        """
        forward = Forward.of(self, progress=progress)
        seed = self.seed if seed is None else seed
        model, x = self._model_and_rows(model, x)
        scores = scores_of(targets, top, len(x), x.device, "x is")
        with undisturbed(x.device):
            features = Table(self.background, x, seed, self.around)
        return local_samples(
            model, features, scores, sampler=features.sampler,
            num_samples=int(self.num_samples), kernel=self._kernel(), forward=forward, seed=seed,
        )  # fmt: skip

    def _model_and_rows(self, model: Any, x: Row) -> tuple[Model, Tensor]:
        rows = self.background.rows(x)
        if not isinstance(x, Tensor):
            rows = rows.to(device_of_networks(model))
        frames = self.frames
        if frames is None:
            frames = self.background.dtypes is not None and Estimator.is_one(model)
        if Estimator.is_one(model):
            rows = rows.to(torch.promote_types(rows.dtype, torch.float32))  # no array is bfloat16
            return Estimator(model, self.background.frame if frames else None), rows
        return (_OfFrames(model, self.background) if frames else model), rows

    def _kernel(self) -> Kernel:
        return self.kernel or Exponential(0.75 * math.sqrt(len(self.background)), "euclidean")


class _OfFrames:
    """A function of DataFrames as a model of tensors; it runs on the host."""

    def __init__(self, function: Callable[[Any], Any], background: Background):
        self.function = function
        self.background = background

    def __call__(self, x: Tensor) -> Tensor:
        found = self.function(self.background.frame(x))
        return found if isinstance(found, Tensor) else as_scores(found, "the model", x)


def _names(background: Background) -> BinNames:
    return BinNames(
        tuple(tuple(b.text for b in column.bins) for column in background.columns),
        tuple(f"{column.name} is unknown" for column in background.columns),
    )


class TableSettings(TypedDict, total=False):
    """The fields of :class:`TableLime` beside the background."""

    num_samples: int
    around: bool
    kernel: Kernel | None
    surrogate: Surrogate
    frames: bool | None
    rounds: Rounds
    chunk_size: int | None
    exact_chunks: bool
    autocast: torch.dtype | None


class ExplainTableSettings(TableSettings, total=False):
    """The keywords of :func:`explain_table`."""

    top: int
    seed: int | Tensor | None
    differentiable: bool
    keep_samples: bool
    resume: Explanation | None
    progress: Progress | None


def explain_table(
    model: Any,
    x: Row,
    background: Background | Any,
    targets: Targets = None,
    **settings: Unpack[ExplainTableSettings],
) -> Explanation:
    """``TableLime(background=…, **fields).explain(model, x, targets, …)`` in one call.

    The keywords are the fields of :class:`TableLime` and the arguments of
    :meth:`TableLime.explain`. ``background`` may also be training data, which is passed to
    ``Background.of``. For many calls, make the background once.

    Example:
        >>> data = torch.tensor([[20.0, 0], [30, 1], [40, 1], [50, 1]])
        >>> explanation = explain_table(lambda x: x[:, 1], data[:2], data, num_samples=100)
        >>> explanation[0].as_list()[0][0], explanation[1].as_list()[0][0]
        ('1=0', '1=1')
    """
    check_keywords(settings, ExplainTableSettings.__annotations__, "explain_table()")
    fields = TableSettings.__annotations__
    own = {name: value for name, value in settings.items() if name in fields}
    call = {name: value for name, value in settings.items() if name not in own}
    known = background if isinstance(background, Background) else Background.of(background)
    return TableLime(background=known, **own).explain(model, x, targets, **call)  # type: ignore[arg-type]
