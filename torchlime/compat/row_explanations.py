"""From the samples of a row to its explanation."""

from typing import Any

from torchlime.compat.explanation import Explanation
from torchlime.compat.label_fits import fit_labels
from torchlime.compat.labels import most_probable
from torchlime.compat.neighbourhoods import Neighbourhood, with_ids
from torchlime.compat.outputs import class_scores, outputs_of, regression_scores
from torchlime.compat.table_mapper import mapper_of


def explained_row(
    explainer: Any,
    row: Any,
    near: Neighbourhood,
    predict_fn: Any,
    wanted: list[Any] | None,
    top_labels: Any,
    **settings: Any,
) -> Explanation:
    """The explanation of one row.

    Args:
        explainer: whose names, mode and LimeBase they are.
        row: [F], or csr [1,F].
        near: its samples.
        predict_fn: the caller's function.
        wanted: the labels to explain; None = the ``top_labels`` most probable.
        top_labels: how many.
        settings: of :func:`fit_labels`.
    """
    outputs = outputs_of(predict_fn, _as_given(explainer, near.rows), "predict_fn")
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
        most = row.shape[1] if settings["selection"] == "none" else settings["num_features"]
        for label, ranked in explanation.local_exp.items():
            explanation.local_exp[label] = with_ids(ranked, near.columns, row.shape[1], most)
    if regression:
        _both_signs(explanation)
    return explanation


def _as_given(explainer: Any, rows: Any) -> Any:
    """The rows as the function takes them."""
    if not explainer.as_frame:
        return rows
    import pandas

    return pandas.DataFrame(rows, columns=explainer._columns)


def _both_signs(explanation: Explanation) -> None:
    """lime's two labels of a regressor: 1 = for, 0 = against."""
    explanation.intercept[1] = explanation.intercept[0]
    explanation.local_exp[1] = list(explanation.local_exp[0])
    explanation.local_exp[0] = [(j, -1 * weight) for j, weight in explanation.local_exp[1]]
