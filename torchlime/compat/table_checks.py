"""The errors and warnings of a tabular explainer, in sentences."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from torchlime._warn import warn
from torchlime.compat.arrays import Array
from torchlime.compat.tables import is_sparse, quoted, refuse_nan


def column_numbers(categorical: Any) -> list[int]:
    """``categorical_features`` as a list.

    Raises:
        ValueError: they are no numbers, such as names.
    """
    try:
        return [operator.index(column) for column in ([] if categorical is None else categorical)]
    except TypeError:
        raise ValueError(
            f"categorical_features must be numbers of columns, got {list(categorical)}; for names, "
            "pass [list(columns).index(name) for name in names]"
        ) from None


def check_names(
    names: Any, feature_names: Sequence[Any], categorical: Iterable[int], count: int
) -> Mapping[int, Any]:
    """The names of the categories as {column: names}; lime ignores any other form, and so do we.

    Raises:
        ValueError: a column does not exist, or the number of names differs.
    """
    if len(feature_names) != count:
        raise ValueError(
            f"feature_names must name the {count} columns of training_data, "
            f"got {len(feature_names)}"
        )
    wrong = [column for column in categorical if not 0 <= column < count]
    if wrong:
        raise ValueError(
            f"categorical_features must be columns of training_data, 0…{count - 1}, got {wrong}"
        )
    if names is None or isinstance(names, Mapping):
        return names or {}
    warn(
        f"categorical_names has no effect as a {type(names).__name__}; pass a dict "
        "{column: the name of each category}"
    )
    return {}


def check_categories(data: Any, categorical: Sequence[int], names: Sequence[Any]) -> None:
    """Raise unless the categorical columns hold whole numbers.

    Raises:
        ValueError: they hold fractions or NaN, or the table is sparse.
    """
    if is_sparse(data):
        if categorical:
            raise ValueError(
                "sparse training_data cannot have categorical_features; pass "
                "training_data.toarray()"
            )
        return
    refuse_nan(data, categorical, names)
    for column in categorical:
        _check_whole(data[:, column], names[column])


def _check_whole(values: Array, name: Any) -> None:
    broken = values[values != np.trunc(values)] if values.dtype.kind == "f" else values[:0]
    if len(broken):
        raise ValueError(
            f"the categorical column {quoted([name])} must hold whole numbers, got "
            f"{broken[0]:g}; number its categories, or leave it out of categorical_features"
        )


def check_stats(stats: Mapping[str, Any]) -> None:
    """Raise where values and frequencies differ in number; warn where there are no bins.

    Raises:
        ValueError: they differ.
    """
    for column, values in stats["feature_values"].items():
        if len(values) != len(stats["feature_frequencies"][column]):
            raise ValueError(
                f"training_data_stats has {len(values)} feature_values of column {column}, and "
                f"{len(stats['feature_frequencies'][column])} feature_frequencies"
            )
    if not stats.get("bins"):
        warn(
            "training_data_stats has no 'bins', so no column is discretised; pass "
            "bins={column: edges}; explainer.discretizer.bins(data, labels) lists the edges"
        )


def warn_of_flat_bins(discretizer: Any, drawn: Mapping[int, Any], names: Sequence[Any]) -> None:
    """Warn where the model sees the only value of a bin, and lime would show it 0.

    ``drawn`` says which bins of each column are drawn.
    """
    if not hasattr(discretizer, "flat_bins") or discretizer.literal_bins:
        return
    found = []
    for column, bins in discretizer.flat_bins().items():
        values = [f"{value:g}" for one, value in bins if one in drawn[column]]
        found += [f"{quoted([names[column]])} ({', '.join(values)})"] * bool(values)
    if found:
        warn(
            f"bins of a single value: {'; '.join(found)}. The model is shown this value. lime "
            "shows it (minimum − mean) / std, which is 0; literal_bins=True does so too"
        )


def warn_of_switches(data: Array, categorical: Sequence[int], names: Sequence[Any]) -> None:
    """Warn of columns of two whole numbers that are split into bins, as in lime."""
    found = []
    for column in range(data.shape[1]):
        if column not in categorical and len(kinds := np.unique(data[:, column])) == 2:
            found += [names[column]] if (kinds == np.trunc(kinds)).all() else []
    if found:
        warn(
            f"{quoted(found)}: only two whole numbers each, but not listed in "
            "categorical_features, so the model sees fractions between them, and one bin may hold "
            "both"
        )


def warn_of_new_categories(
    row: Array, known: Mapping[int, Any], discretizer: Any, names: Sequence[Any]
) -> None:
    """Warn where no sample can have the row's category.

    Raises:
        ValueError: a category is no whole number.
    """
    for column, frequencies in known.items():
        if discretizer is not None and column in discretizer.lambdas:
            continue
        value = row[column]
        if not np.isfinite(value):
            raise ValueError(
                f"data_row holds {value} in the categorical column {quoted([names[column]])}"
            )
        _check_whole(np.asarray([value]), names[column])
        if not (frequencies.values == value).any():
            warn(
                f"no row of the training data has {value:g} in {quoted([names[column]])}, so no "
                "sample has it either, and its weight says nothing"
            )


def check_finite(row: Array, names: Sequence[Any]) -> None:
    """Raise unless samples can have a distance to the row.

    Raises:
        ValueError: it holds NaN or infinity.
    """
    holed = [names[int(column)] for column in np.flatnonzero(~np.isfinite(row))]
    if holed:
        raise ValueError(
            f"data_row is not finite in {quoted(holed)}, so no sample has a "
            "distance to it; fill it in, or pass discretize_continuous=True"
        )


def warn_of_scale(literal: bool) -> None:
    """Warn that sparse rows are divided by the scale."""
    if not literal:
        warn(
            "weights of a sparse row are for one standard deviation, as for dense rows. lime "
            "multiplies sparse rows by the scale instead of dividing; literal_scale=True does so "
            "too"
        )
