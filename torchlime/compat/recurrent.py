"""lime's explainer of series: their steps and features as the columns of a table."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from torchlime._warn import warn
from torchlime.compat.arrays import Array
from torchlime.compat.outputs import outputs_of
from torchlime.compat.tables import numeric
from torchlime.compat.tabular_explainer import LimeTabularExplainer


class RecurrentTabularExplainer(LimeTabularExplainer):
    """Explains models of series [n,T,F], as lime does.

    Args:
        training_data: [n,T,F].
        mode, training_labels, categorical_names, kernel_width, kernel, verbose, class_names,
            feature_selection, discretize_continuous, discretizer, random_state, literal_bins: as
            for :class:`LimeTabularExplainer`.
        feature_names: [F]; None = '0', '1', …. Columns are named 'name_t-1', 'name_t-0'.
        categorical_features: numbers of the *flattened* columns, as in lime: feature f at step t is
            column f·T + t.

    Raises:
        ImportError, LimeError: as :class:`LimeTabularExplainer` does.
        ValueError: ``training_data`` is not [n,T,F], the number of names differs, or as
            :class:`LimeTabularExplainer` does.
    """

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
        random_state: Any = None,
        *,
        literal_bins: bool = False,
    ) -> None:
        data = numeric(training_data, "training_data")
        if data.ndim != 3 or 0 in data.shape:
            raise ValueError(
                f"training_data must be series [rows,steps,features], got {list(data.shape)}"
            )
        samples, self.n_timesteps, self.n_features = data.shape
        names = range(self.n_features) if feature_names is None else list(feature_names)
        if len(names) != self.n_features:
            raise ValueError(
                f"feature_names must name the {self.n_features} features, got {len(names)}"
            )
        if categorical_features is not None and len(categorical_features):
            warn(
                "categorical_features are flattened columns, as in lime: feature f at step t is "
                f"column f·{self.n_timesteps} + t"
            )
        super().__init__(
            data.transpose(0, 2, 1).reshape(samples, -1),
            mode=mode,
            training_labels=training_labels,
            feature_names=[
                f"{name}_t-{step}" for name in names for step in reversed(range(self.n_timesteps))
            ],
            categorical_features=categorical_features,
            categorical_names=categorical_names,
            kernel_width=kernel_width,
            kernel=kernel,
            verbose=verbose,
            class_names=class_names,
            feature_selection=feature_selection,
            discretize_continuous=discretize_continuous,
            discretizer=discretizer,
            random_state=random_state,
            literal_bins=literal_bins,
        )

    def explain_instance(  # type: ignore[override]  # lime names the function otherwise here
        self,
        data_row: Any,
        classifier_fn: Any,
        labels: Iterable[Any] = (1,),
        top_labels: int | None = None,
        num_features: int = 10,
        num_samples: int = 5000,
        distance_metric: Any = "euclidean",
        model_regressor: Any = None,
        *,
        batch_size: int | None = None,
    ) -> Any:
        """Explain what the model says of a series [T,F], or of several [B,T,F].

        Args:
            data_row: the series.
            classifier_fn: series [n,T,F] float64 → scores [n,classes], or numbers [n]; or a module.
            labels, top_labels, num_features, num_samples, distance_metric, model_regressor,
                batch_size: as for :meth:`LimeTabularExplainer.explain_instance`.

        Returns:
            Explanation: a list of them for several series.

        Raises:
            TypeError: the model cannot be called.
            ValueError: the series has another number of steps or features, or as
                :meth:`LimeTabularExplainer.explain_instance` does.
        """
        series = numeric(data_row, "data_row")
        if series.ndim not in (2, 3) or series.shape[-2:] != (self.n_timesteps, self.n_features):
            raise ValueError(
                f"data_row must be a series [{self.n_timesteps},{self.n_features}] (steps, "
                f"features) or several, got {list(series.shape)}"
            )
        if not callable(classifier_fn):
            raise TypeError(
                f"classifier_fn must be a function, got {type(classifier_fn).__name__}; pass its "
                "predict_proba or predict"
            )
        flat = series.swapaxes(-1, -2).reshape(*series.shape[:-2], -1)
        return super().explain_instance(
            flat, self._make_predict_proba(classifier_fn), labels=labels, top_labels=top_labels,
            num_features=num_features, num_samples=num_samples, distance_metric=distance_metric,
            model_regressor=model_regressor, batch_size=batch_size,
        )  # fmt: skip

    def _make_predict_proba(self, func: Callable[..., Any]) -> Callable[[Array], Any]:
        return partial(_of_series, func, (self.n_features, self.n_timesteps))


def _of_series(function: Callable[..., Any], shape: tuple[int, int], rows: Array) -> Any:
    """Call it with rows [n,F·T] as series [n,T,F]."""
    return outputs_of(
        function, np.transpose(rows.reshape(len(rows), *shape), (0, 2, 1)), "classifier_fn"
    )
