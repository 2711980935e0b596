"""From the samples of a row to its explanation."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from torchlime._extras import imported
from torchlime.compat.arrays import Array
from torchlime.compat.explanation import Explanation
from torchlime.compat.label_fits import fit_labels
from torchlime.compat.labels import most_probable
from torchlime.compat.neighbourhoods import Neighbourhood, with_ids
from torchlime.compat.outputs import class_scores, outputs_of_parts, regression_scores
from torchlime.compat.table_mapper import mapper_of
from torchlime.compat.tables import is_sparse

_AT_ONCE = 1 << 21  # numbers in the samples of the rows that share a call


def explained_rows(
    explainer: Any,
    rows: Sequence[Any],
    draw: Callable[[Any], Neighbourhood],
    predict_fn: Any,
    wanted: list[Any] | None,
    top_labels: Any,
    *,
    num_samples: int,
    batch_size: int | None,
    **settings: Any,
) -> Iterator[Explanation]:
    """The explanations of rows, whose samples are drawn one row after the other.

    Several rows share a call of the function, as far as memory allows. With a regressor, each row
    has its own call: the regressor may draw random numbers, and their order must be lime's.

    Args:
        explainer: has the names, the mode and the LimeBase.
        rows: each [F], or csr [1,F].
        draw: the samples of a row.
        predict_fn: the caller's function.
        wanted: the labels to explain; None = the ``top_labels`` most probable.
        top_labels: how many.
        num_samples: n.
        batch_size: samples of a call; None = all of a row, or of the rows that share it.
        settings: of :func:`fit_labels`.
    """
    group = max(1, _AT_ONCE // (num_samples * rows[0].shape[-1])) if len(rows) else 1
    group = group if settings["regressor"] is None else 1
    for start in range(0, len(rows), group):
        several = rows[start : start + group]
        drawn = [draw(row) for row in several]
        outputs = _outputs(explainer, [near.rows for near in drawn], predict_fn, batch_size)
        parts = np.split(outputs, len(several))
        for row, near, part in zip(several, drawn, parts, strict=True):
            yield _explained(explainer, row, near, part, wanted, top_labels, **settings)


def _outputs(explainer: Any, parts: list[Any], predict_fn: Any, batch_size: int | None) -> Array:
    """The function's outputs for all of these samples."""
    if len(parts) == 1:
        samples = parts[0]
    elif is_sparse(parts[0]):
        from scipy.sparse import vstack

        samples = vstack(parts, format="csr")
    else:
        samples = np.concatenate(parts)
    size = batch_size or samples.shape[0]
    calls = (
        _as_given(explainer, samples[start : start + size])
        for start in range(0, samples.shape[0], size)
    )
    return outputs_of_parts(predict_fn, calls, "predict_fn")


def _explained(
    explainer: Any,
    row: Any,
    near: Neighbourhood,
    outputs: Array,
    wanted: list[Any] | None,
    top_labels: Any,
    **settings: Any,
) -> Explanation:
    """The explanation of one row from the outputs for its samples."""
    names, regression = explainer.class_names, explainer.mode == "regression"
    if regression:
        scores = regression_scores(outputs)[:, None]
    else:
        scores = class_scores(outputs, "predict_fn")
        names = [str(j) for j in range(scores.shape[1])] if names is None else list(names)
    mapper = mapper_of(explainer, row, near.design, near.columns)
    explanation = Explanation(mapper, mode=explainer.mode, class_names=names)
    if regression:
        explanation.predicted_value = scores[0, 0]
        explanation.min_value, explanation.max_value = scores.min(), scores.max()
    else:
        explanation.predict_proba = scores[0]
    if wanted is None:
        wanted = most_probable(scores[0], top_labels)
        explanation.top_labels = wanted[::-1]
    fit_labels(explanation, explainer.base, near.design, scores, wanted, **settings)
    if near.columns is not None:
        for label, ranked in explanation.local_exp.items():
            explanation.local_exp[label] = with_ids(
                ranked, near.columns, row.shape[1], settings["num_features"], settings["selection"]
            )
    if regression:
        _both_signs(explanation)
    return explanation


def _as_given(explainer: Any, rows: Any) -> Any:
    """The rows as the function takes them."""
    if not explainer.as_frame:
        return rows
    pandas = imported("pandas", "as_frame=True", "tables")
    return pandas.DataFrame(rows, columns=explainer._columns)


def _both_signs(explanation: Explanation) -> None:
    """lime's two labels of a regressor: 1 = for, 0 = against."""
    explanation.intercept[1] = explanation.intercept[0]
    explanation.local_exp[1] = list(explanation.local_exp[0])
    explanation.local_exp[0] = [(j, -1 * weight) for j, weight in explanation.local_exp[1]]
