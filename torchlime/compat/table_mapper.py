"""What the ids of an explained row's features stand for."""

import copy
from collections.abc import Sequence
from typing import Any

from torchlime.compat.arrays import Array
from torchlime.compat.explanation import DomainMapper, Ranked
from torchlime.compat.static_page import row_table, weights_by_column
from torchlime.compat.tables import is_sparse


class TableDomainMapper(DomainMapper):
    """Names the features of a row, and shows them in a table.

    Args:
        feature_names: [F].
        feature_values: the row's values as texts: [F], or of the non-zero columns of a sparse row.
        scaled_row: the row in the design.
        categorical_features: the columns that are categorical.
        discretized_feature_names: [F], names of the bins, if there are any.
        feature_indexes: the non-zero columns of a sparse row.

    Attributes:
        bins: [F], the row's bins and categories, where there are any.
    """

    bins: Array | None = None

    def __init__(
        self,
        feature_names: Sequence[Any],
        feature_values: Sequence[Any],
        scaled_row: Any,
        categorical_features: Any,
        discretized_feature_names: Sequence[Any] | None = None,
        feature_indexes: Any = None,
    ) -> None:
        self.exp_feature_names = feature_names
        self.discretized_feature_names = discretized_feature_names
        self.feature_names = feature_names
        self.feature_values = feature_values
        self.feature_indexes = feature_indexes
        self.scaled_row = scaled_row
        self.all_categorical = not is_sparse(scaled_row) and (
            len(categorical_features) == len(scaled_row)
        )
        self.categorical_features = categorical_features

    def map_exp_ids(self, exp: Ranked, **kwargs: Any) -> Ranked:
        """[(id, weight), …] → [(name of the bin or the column, weight), …]."""
        names = self.exp_feature_names
        if self.discretized_feature_names is not None:
            names = self.discretized_feature_names
        return [(names[feature], weight) for feature, weight in exp]

    def visualize_instance_html(
        self,
        exp: Ranked,
        label: Any,
        div_name: str,
        exp_object_name: str,
        show_table: bool = True,
        show_all: bool = False,
        **kwargs: Any,
    ) -> str:
        """A table of the features and the row's values, in the order of ``exp``.

        Args:
            exp: [(id, weight), …].
            label, div_name, exp_object_name: have no effect.
            show_table: show it.
            show_all: show all columns, in the row's order.
            kwargs: have no effect.
        """
        if not show_table:
            return ""
        weights = weights_by_column(exp, len(self.feature_names))
        values = dict(enumerate(self.feature_values))
        if self.feature_indexes is not None:
            values = dict(zip(map(int, self.feature_indexes), self.feature_values, strict=True))
        shown = list(values) if show_all else [int(feature) for feature, _ in exp]
        return row_table(
            (self.exp_feature_names[j], values.get(j, "0.00"), weights[j]) for j in shown
        )


def mapper_of(explainer: Any, row: Any, design: Array, columns: Array | None) -> TableDomainMapper:
    """The mapper of one row of a tabular explainer.

    Args:
        explainer: the explainer, whose names and bins they are.
        row: [F], or csr [1,F].
        design: [n,k].
        columns: the non-zero columns of a sparse row.

    Raises:
        ValueError: a category has no name.
    """
    if columns is not None:
        values = explainer.convert_and_round(row.data)
        return TableDomainMapper(
            list(explainer.feature_names), values, design[0],
            categorical_features=[], feature_indexes=row.indices,
        )  # fmt: skip
    names, values = copy.copy(explainer.feature_names), explainer.convert_and_round(row)
    binned = explainer.discretizer
    for j in explainer.categorical_features:
        if binned is None or j not in binned.lambdas:
            names[j] = f"{names[j]}={_category(explainer, j, row[j])}"
            values[j] = "True"
    if binned is None:
        return TableDomainMapper(
            names, values, design[0], categorical_features=explainer.categorical_features
        )
    in_words, bins = list(names), binned.discretize(row)
    for j, of_bins in binned.names.items():
        in_words[j] = of_bins[int(bins[j])]
    mapper = TableDomainMapper(
        names, values, design[0], categorical_features=range(len(row)),
        discretized_feature_names=in_words,
    )  # fmt: skip
    mapper.bins = bins
    return mapper


def _category(explainer: Any, column: int, value: Any) -> Any:
    number = int(value)
    names = explainer.categorical_names.get(column)
    if names is None:
        return number
    try:
        return names[number]
    except (IndexError, KeyError):
        raise ValueError(
            f"categorical_names[{column}] has no name for {number}, a value of "
            f"{explainer.feature_names[column]!r}; it has {len(names)}"
        ) from None
