"""lime's explainer of tables."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from torchlime.compat.arrays import Array
from torchlime.compat.discretize import (
    DecileDiscretizer,
    EntropyDiscretizer,
    QuartileDiscretizer,
    StatsDiscretizer,
)
from torchlime.compat.distances import exponential_kernel
from torchlime.compat.explanation import check_mode
from torchlime.compat.labels import asked_for
from torchlime.compat.lime_base import LimeBase, SeededByNumpy, check_random_state
from torchlime.compat.neighbourhoods import (
    Frequencies,
    Neighbourhood,
    check_num_samples,
    default_width,
    discretised,
    plain,
    sparse,
)
from torchlime.compat.outputs import check_batch_size
from torchlime.compat.row_explanations import explained_rows
from torchlime.compat.table_checks import (
    check_categories,
    check_finite,
    check_names,
    check_stats,
    column_numbers,
    warn_of_flat_bins,
    warn_of_new_categories,
    warn_of_scale,
    warn_of_switches,
)
from torchlime.compat.tables import as_rows, as_table, is_sparse, scikit_learn

_BY_NAME = {
    "quartile": QuartileDiscretizer,
    "decile": DecileDiscretizer,
    "entropy": EntropyDiscretizer,
}


class LimeTabularExplainer(SeededByNumpy):
    """Explains models of tables, as lime does.

    Args:
        training_data: [n,F] numbers: an array, a DataFrame, lists, or sparse.
        mode: "classification" or "regression".
        training_labels: [n], for the discretizer "entropy".
        feature_names: [F]; None = a DataFrame's columns, else '0', '1', ….
        categorical_features: columns of categories, which are whole numbers.
        categorical_names: {column: the name of each category}.
        kernel_width: the kernel's width; None = 0.75·√F.
        kernel: ``kernel(d, kernel_width=...)``, distances (n,) → weights (n,). None =
            √exp(−d²/width²).
        verbose: print the intercept and both predictions of every fit.
        class_names: a name for each class; None = their numbers.
        feature_selection: auto, none, highest_weights, forward_selection or lasso_path.
        discretize_continuous: split the other columns into bins, and explain those.
        discretizer: "quartile", "decile", "entropy", or a BaseDiscretizer.
        sample_around_instance: without bins, draw around the row instead of the means.
        random_state: None (numpy's global one), an int or a ``RandomState``.
        training_data_stats: means, mins, maxs, stds, feature_values, feature_frequencies and bins,
            each {column: …}, instead of those of ``training_data``.
        literal_bins: show the model what lime shows it for a bin of a single value: (minimum −
            mean) / std, which is 0. False = the value.
        literal_scale: scale sparse rows as lime does: times the standard deviation. False = divided
            by it, as for dense rows.
        as_frame: give the function DataFrames with the columns of ``training_data``, if it is one.

    Convention:
        Samples of a continuous column are fractions, even if all of its values are whole numbers.

    Raises:
        ImportError: scikit-learn is not installed.
        LimeError: there is no such mode.
        ValueError: the table holds text, NaN in a column to discretise, or fractions in a
            categorical one; the discretizer or statistics cannot be used.

    Example:
        >>> data = np.random.RandomState(0).normal(size=(200, 3))
        >>> explainer = LimeTabularExplainer(data, mode="regression", random_state=0)
        >>> explanation = explainer.explain_instance(data[0], lambda rows: rows[:, 1] * 2)
        >>> explanation.as_list()[0][0]
        '-0.03 < 1 <= 0.68'
    """

    literal_bins = literal_scale = as_frame = False  # for subclasses with an __init__ of their own

    def __init__(
        self,
        training_data: Any,
        mode: str = "classification",
        training_labels: Any = None,
        feature_names: Any = None,
        categorical_features: Any = None,
        categorical_names: Any = None,
        kernel_width: float | None = None,
        kernel: Callable[..., Any] | None = None,
        verbose: bool = False,
        class_names: Any = None,
        feature_selection: str = "auto",
        discretize_continuous: bool = True,
        discretizer: Any = "quartile",
        sample_around_instance: bool = False,
        random_state: Any = None,
        training_data_stats: dict[str, Any] | None = None,
        *,
        literal_bins: bool = False,
        literal_scale: bool = False,
        as_frame: bool = False,
    ) -> None:
        self.random_state = check_random_state(random_state)
        self.mode = check_mode(mode)
        data, self._columns = as_table(training_data)
        self.literal_bins, self.literal_scale = literal_bins, literal_scale
        if as_frame and self._columns is None:
            raise ValueError("as_frame=True needs training_data as a DataFrame, which has columns")
        self.as_frame = as_frame
        self.sample_around_instance = sample_around_instance
        self.training_data_stats = training_data_stats
        if training_data_stats:
            self.validate_training_data_stats(training_data_stats)
        count = data.shape[1]
        default = [str(j) for j in range(count)] if self._columns is None else self._columns
        self.feature_names = list(default if feature_names is None else feature_names)
        self.categorical_features = column_numbers(categorical_features)
        self.categorical_names = check_names(
            categorical_names, self.feature_names, self.categorical_features, count
        )
        check_categories(data, self.categorical_features, self.feature_names)
        self.discretizer = None
        if discretize_continuous and not is_sparse(data):
            warn_of_switches(data, self.categorical_features, self.feature_names)
            self.discretizer = self._discretizer_of(discretizer, data, training_labels)
            self.categorical_features = list(range(count))
        width = default_width(count) if kernel_width is None else float(kernel_width)
        kernel_fn = partial(kernel or exponential_kernel, kernel_width=width)
        self.feature_selection = feature_selection
        self.base = LimeBase(kernel_fn, verbose, random_state=self.random_state)
        self.class_names = class_names
        self._measure(data, training_data_stats)
        warn_of_flat_bins(self.discretizer, self.feature_values, self.feature_names)

    def _discretizer_of(self, discretizer: Any, data: Array, labels: Any) -> Any:
        if self.training_data_stats:
            check_stats(self.training_data_stats)
            discretizer = StatsDiscretizer(
                data, self.categorical_features, self.feature_names, labels=labels,
                data_stats=self.training_data_stats, random_state=self.random_state,
            )  # fmt: skip
        elif isinstance(discretizer, str) and discretizer in _BY_NAME:
            discretizer = _BY_NAME[discretizer](
                data, self.categorical_features, self.feature_names, labels=labels,
                random_state=self.random_state,
            )  # fmt: skip
        if not all(hasattr(discretizer, name) for name in ("discretize", "undiscretize", "names")):
            raise ValueError(
                "Discretizer must be 'quartile', 'decile', 'entropy' or a BaseDiscretizer "
                f"instance, got {discretizer!r}"
            )
        if self.literal_bins:
            discretizer.literal_bins = True
        return discretizer

    def _measure(self, data: Any, stats: dict[str, Any] | None) -> None:
        """The scaler, and the values and frequencies of the categorical columns."""
        scaler = scikit_learn("preprocessing", "LimeTabularExplainer").StandardScaler
        self.scaler = scaler(with_mean=False).fit(data)
        self.feature_values: dict[int, Any] = {}
        self.feature_frequencies: dict[int, Any] = {}
        if self.discretizer is not None and stats is None:
            data = self.discretizer.discretize(data)
        for column in self.categorical_features if not is_sparse(data) else []:
            if stats is None:
                found, frequencies = np.unique(data[:, column], return_counts=True)
                values = list(found)
            else:
                values = stats["feature_values"][column]
                frequencies = stats["feature_frequencies"][column]
            self.feature_values[column] = values
            self.feature_frequencies[column] = np.array(frequencies) / float(sum(frequencies))
            self.scaler.mean_[column] = 0
            self.scaler.scale_[column] = 1

    @staticmethod
    def convert_and_round(values: Any) -> list[str]:
        """Numbers as texts with two decimals."""
        return [f"{value:.2f}" for value in values]

    @staticmethod
    def validate_training_data_stats(training_data_stats: dict[str, Any]) -> None:
        """Raise where statistics are missing."""
        needed = ("means", "mins", "maxs", "stds", "feature_values", "feature_frequencies")
        missing = [key for key in needed if key not in training_data_stats]
        if missing:
            raise Exception(f"Missing keys in training_data_stats. Details: {missing}")

    def explain_instance(
        self,
        data_row: Any,
        predict_fn: Any,
        labels: Iterable[Any] = (1,),
        top_labels: int | None = None,
        num_features: int = 10,
        num_samples: int = 5000,
        distance_metric: Any = "euclidean",
        model_regressor: Any = None,
        sampling_method: str = "gaussian",
        *,
        batch_size: int | None = None,
    ) -> Any:
        """Explain what the model says of a row, or of several.

        Args:
            data_row: a row [F], a Series, sparse [1,F]; or several: [B,F], a DataFrame, sparse
                [B,F].
            predict_fn: rows [n,F] float64 → scores [n,classes], or numbers [n] of a regressor. It
                is called once; several rows share calls, as far as memory allows. A torch module
                gets a tensor on its device and in its dtype, and is in eval mode.
            labels: the classes to explain; they have no effect for a regressor.
            top_labels: explain this many of the most probable classes instead.
            num_features: the largest number of features.
            num_samples: n; the first sample is the row itself.
            distance_metric: any name that scikit-learn knows.
            model_regressor: None (Ridge, alpha 1) or a scikit-learn regressor.
            sampling_method: "gaussian" or "lhs", a Latin hypercube; it has no effect with bins.
            batch_size: the most samples of a call; None = all of a row.

        Returns:
            Explanation: a list of them for several rows, drawn one after the other.

        Raises:
            IndexError: the classifier lacks a label.
            NotImplementedError: it returns classes, not scores.
            TypeError: it is no function.
            ValueError: the row has other columns, the outputs have another shape, or a number is
                below 1.
        """
        rows, several = as_rows(data_row, self._columns, self.scaler.n_features_in_)
        check_num_samples(num_samples)
        wanted = [0] if self.mode == "regression" else asked_for(labels, top_labels, stacklevel=2)
        check_batch_size(batch_size)
        draw = partial(self._neighbourhood, num_samples=num_samples, sampling=sampling_method)
        explained = list(
            explained_rows(
                self, rows, draw, predict_fn, wanted, top_labels, num_samples=num_samples,
                batch_size=batch_size, num_features=num_features, selection=self.feature_selection,
                metric=distance_metric, regressor=model_regressor,
            )
        )  # fmt: skip
        return explained if several else explained[0]

    def _neighbourhood(self, row: Any, num_samples: int, sampling: str) -> Neighbourhood:
        if is_sparse(row):
            if self.categorical_features and self.discretizer is None:
                raise ValueError(
                    "sparse rows cannot have categorical_features; pass row.toarray()[0]"
                )
            if self.discretizer is not None:
                raise ValueError("training_data was dense, so pass row.toarray()[0]")
            warn_of_scale(self.literal_scale)
            return sparse(
                self.random_state, self.scaler, row, num_samples, sampling=sampling,
                around=self.sample_around_instance, literal=self.literal_scale,
            )  # fmt: skip
        known = {
            column: Frequencies.of(self.feature_values[column], self.feature_frequencies[column])
            for column in self.categorical_features
        }
        warn_of_new_categories(row, known, self.discretizer, self.feature_names)
        if self.discretizer is not None:
            return discretised(self.random_state, self.discretizer, known, row, num_samples)
        check_finite(row, self.feature_names)
        return plain(
            self.random_state, self.scaler, known, self.categorical_features, row, num_samples,
            around=self.sample_around_instance, sampling=sampling,
        )  # fmt: skip
