"""lime's explanation of a row or a text, in place of ``lime.explanation``."""

import string
from pathlib import Path
from typing import Any

import numpy as np

from torchlime._extras import imported
from torchlime.compat.exceptions import LimeError
from torchlime.compat.lime_base import check_random_state
from torchlime.compat.static_page import explanation_page

Ranked = list[tuple[Any, Any]]


def id_generator(size: int = 15, random_state: Any = None) -> str:
    """``size`` random capital letters and digits. No page of an explanation needs such an id."""
    letters = list(string.ascii_uppercase + string.digits)
    return "".join(check_random_state(random_state).choice(letters, size, replace=True))


class DomainMapper:
    """What feature ids stand for; there is a subclass for rows, and one for texts."""

    def map_exp_ids(self, exp: Ranked, **kwargs: Any) -> Ranked:
        """[(id, weight), …] → [(name, weight), …]; here unchanged."""
        return exp

    def visualize_instance_html(
        self, exp: Ranked, label: Any, div_name: str, exp_object_name: str, **kwargs: Any
    ) -> str:
        """HTML of what was explained, without script; here empty.

        ``div_name`` and ``exp_object_name`` belong to lime's script, and have no effect.
        """
        return ""


class Explanation:
    """The explanation of one row or text.

    Args:
        domain_mapper: knows what feature ids stand for.
        mode: "classification" or "regression".
        class_names: a name for each class; None = their numbers.
        random_state: kept, and nothing is drawn from it.

    Attributes:
        local_exp: {label: [(feature, weight), …]} by decreasing absolute weight.
        intercept: {label: intercept}.
        scores, local_preds: {label: weighted R²} and {label: the linear model's prediction (1,)}.
        score, local_pred: the same of the label explained last.
        predict_proba, top_labels: of a classifier.
        predicted_value, min_value, max_value, dummy_label: of a regressor; the limits are those of
            the samples.

    Raises:
        LimeError: there is no such mode.
    """

    def __init__(
        self,
        domain_mapper: Any,
        mode: str = "classification",
        class_names: Any = None,
        random_state: Any = None,
    ) -> None:
        self.random_state = random_state
        self.mode = mode
        self.domain_mapper = domain_mapper
        self.local_exp: dict[Any, Ranked] = {}
        self.intercept: dict[Any, Any] = {}
        self.score: Any = None
        self.local_pred: Any = None
        self.scores: dict[Any, float] = {}
        self.local_preds: dict[Any, Any] = {}
        if check_mode(mode) == "classification":
            self.class_names = class_names
            self.top_labels: Any = None
            self.predict_proba: Any = None
        else:
            self.class_names = ["negative", "positive"]
            self.predicted_value: Any = None
            self.min_value: Any = 0.0
            self.max_value: Any = 1.0
            self.dummy_label = 1

    def available_labels(self) -> list[Any]:
        """The explained labels: the most probable first, if ``top_labels`` was asked for.

        Raises:
            NotImplementedError: the model is a regressor.
        """
        if self.mode != "classification":
            raise NotImplementedError("Not supported for regression explanations.")
        return list(self.top_labels or self.local_exp)

    def as_list(self, label: Any = 1, **kwargs: Any) -> list[tuple[Any, float]]:
        """[(name, weight), …] of a label.

        Args:
            label: one of the explained labels; it has no effect for a regressor.
            kwargs: for the domain mapper; ``positions=True`` for a text.

        Raises:
            KeyError: the label was not explained.
        """
        exp = self.domain_mapper.map_exp_ids(self._ranked(label), **kwargs)
        return [(name, float(weight)) for name, weight in exp]

    def as_map(self) -> dict[Any, Ranked]:
        """{label: [(feature, weight), …]}."""
        return self.local_exp

    def as_pyplot_figure(
        self, label: Any = 1, figsize: tuple[float, float] | None = None, **kwargs: Any
    ) -> Any:
        """A bar chart by matplotlib: the strongest feature on top, green above 0, red below.

        Args:
            label: one of the explained labels.
            figsize: in inches; None = matplotlib's.
            kwargs: as for :meth:`as_list`.

        Raises:
            ImportError: matplotlib is not installed.
            KeyError: the label was not explained.
        """
        plt = imported("matplotlib.pyplot", "as_pyplot_figure", "plot")
        exp = self.as_list(label=label, **kwargs)[::-1]
        figure = plt.figure(figsize=figsize)
        heights = [weight for _, weight in exp]
        at = np.arange(len(exp)) + 0.5
        colors = ["green" if weight > 0 else "red" for weight in heights]
        plt.barh(at, heights, align="center", color=colors)
        plt.yticks(at, [str(name).replace("$", r"\$") for name, _ in exp])
        of_class = f" for class {self.name_of(label)}" if self.mode == "classification" else ""
        plt.title(f"Local explanation{of_class}".replace("$", r"\$"))
        return figure

    def as_html(
        self,
        labels: Any = None,
        predict_proba: bool = True,
        show_predicted_value: bool = True,
        **kwargs: Any,
    ) -> str:
        """A static page: no script, no other host, the same bytes each time.

        Args:
            labels: the labels whose bars are shown; None = all that were explained.
            predict_proba: show the most probable classes (of a classifier).
            show_predicted_value: show the prediction between its limits (of a regressor).
            kwargs: for the domain mapper; ``show_table`` and ``show_all`` for a row, ``text`` and
                ``opacity`` for a text.

        Raises:
            KeyError: a label was not explained.
        """
        if self.mode == "classification":
            labels = self.available_labels() if labels is None else list(labels)
        else:
            labels = [self.dummy_label]
        shown = predict_proba if self.mode == "classification" else show_predicted_value
        instance = ""
        if labels:
            instance = self.domain_mapper.visualize_instance_html(
                self._ranked(labels[0]), labels[0], "raw_div", "exp", **kwargs
            )
        return explanation_page(self, labels, shown, instance)

    def show_in_notebook(
        self,
        labels: Any = None,
        predict_proba: bool = True,
        show_predicted_value: bool = True,
        **kwargs: Any,
    ) -> None:
        """Show the page of :meth:`as_html` in a notebook."""
        from IPython.display import HTML, display  # a notebook has it

        display(HTML(self.as_html(labels, predict_proba, show_predicted_value, **kwargs)))

    def save_to_file(
        self,
        file_path: Any,
        labels: Any = None,
        predict_proba: bool = True,
        show_predicted_value: bool = True,
        **kwargs: Any,
    ) -> None:
        """Write the page of :meth:`as_html` to a file."""
        html = self.as_html(labels, predict_proba, show_predicted_value, **kwargs)
        Path(file_path).write_text(html, encoding="utf-8")

    def name_of(self, label: Any) -> str:
        """A class's name, or its number where it has none."""
        names = self.class_names
        known = names is not None and -len(names) <= label < len(names)
        return str(names[label]) if known else str(label)

    def _ranked(self, label: Any) -> Ranked:
        label = label if self.mode == "classification" else self.dummy_label
        if label not in self.local_exp:
            known = ", ".join(str(one) for one in self.available_labels())
            raise KeyError(
                f"label {label} was not explained; these were: {known}. Pass label=, or explain it "
                f"by labels=({label},)"
            )
        return self.local_exp[label]


def check_mode(mode: Any) -> Any:
    """``mode``, if it is "classification" or "regression".

    Raises:
        LimeError: it is neither.
    """
    if mode not in ("classification", "regression"):
        raise LimeError(
            f'Invalid explanation mode "{mode}". Should be either "classification" or "regression".'
        )
    return mode
