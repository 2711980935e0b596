"""The explanation of one image, in lime's form."""

from typing import Any, cast

import numpy as np

from torchlime.compat.arrays import Array, to_numpy
from torchlime.compat.label_maps import ids_and_columns, places
from torchlime.compat.native import Samples, native_explanation
from torchlime.explanation import Explanation


class ImageExplanation:
    """The explanation of one image.

    Attributes:
        image: [H,W,C] as it was given; [H,W,3] for a grey image.
        segments: [H,W], the caller's own label map.
        intercept: {label: intercept}.
        local_exp: {label: [(segment, weight), …]} by decreasing absolute weight. A segment is
            named by its id in ``segments``.
        score: weighted R² of the label explained last (with ``top_labels``, the most probable).
        local_pred: the linear model's prediction (1,) for the image and the same label.
        scores, local_preds: {label: the same number}, for every label.
        top_labels: the most probable labels, best first; only where ``top_labels`` was asked for.

    Convention:
        Before anything is explained, ``score`` and ``local_pred`` are the empty dicts ``scores``
        and ``local_preds``: a subclass may fill them as lime's repository does
        (``score[label] = …``), or set numbers as lime 0.2.0.1 does.
    """

    score: float
    local_pred: Array
    top_labels: list[Any]
    _samples: Samples | None = None

    def __init__(self, image: Array, segments: Array) -> None:
        self.image = image
        self.segments = segments
        self.intercept: dict[Any, Any] = {}
        self.local_exp: dict[Any, list[tuple[Any, Any]]] = {}
        self.scores: dict[Any, float] = {}
        self.local_preds: dict[Any, float] = {}
        self.score = cast(Any, self.scores)
        self.local_pred = cast(Any, self.local_preds)

    @property
    def segment_ids(self) -> Array:
        """The ids of the segments in ascending order [M]; there is one mask column for each."""
        return self._ids_and_columns()[0]

    def get_image_and_mask(
        self,
        label: Any,
        positive_only: bool = True,
        negative_only: bool = False,
        hide_rest: bool = False,
        num_features: int = 5,
        min_weight: float = 0.0,
    ) -> tuple[Array, Array]:
        """The image with the strongest segments of ``label``, and their mask.

        Args:
            label: one of the explained labels.
            positive_only: show the first ``num_features`` segments with a weight above 0 and
                ``min_weight``.
            negative_only: show the first ``num_features`` segments with a negative weight whose
                absolute value is above ``min_weight``; needs ``positive_only=False``.
            hide_rest: show 0 elsewhere instead of the image.
            num_features: how many segments.
            min_weight: least absolute weight.

        Returns:
            image [H,W,C] in the image's dtype (float64 with ``hide_rest``) and mask [H,W] in the
            segments' dtype (int64 where both signs are shown and that dtype has no −1).

        Convention:
            With ``positive_only`` or ``negative_only``, the mask is 1 on the shown segments. With
            neither, it is −1 where the weight is negative. Those segments have the image's largest
            value in channel 0, the others in channel 1. Segments below ``min_weight`` among the
            ``num_features`` strongest are then left out, not replaced.

        Raises:
            KeyError: the label was not explained.
            ValueError: both signs are asked for.
        """
        weights = self._weights(label)
        if positive_only & negative_only:
            raise ValueError("Positive_only and negative_only cannot be true at the same time.")
        if positive_only:
            shown = [(f, w) for f, w in weights if w > 0 and w > min_weight][:num_features]
        elif negative_only:
            shown = [(f, w) for f, w in weights if w < 0 and -w > min_weight][:num_features]
        else:
            shown = [(f, w) for f, w in weights[:num_features] if not abs(w) < min_weight]

        picture = np.zeros(self.image.shape) if hide_rest else self.image.copy()
        both = not (positive_only or negative_only)
        unsigned = both and self.segments.dtype.kind in "bu"
        mask = np.zeros(self.segments.shape, np.int64 if unsigned else self.segments.dtype)
        brightest = np.max(self.image) if both else None
        for feature, weight in shown:
            inside = self.segments == feature
            picture[inside] = self.image[inside]
            mask[inside] = -1 if both and weight < 0 else 1
            if both:
                channel = 0 if weight < 0 else 1
                picture[inside, min(channel, self.image.shape[-1] - 1)] = brightest
        return picture, mask

    def heatmap(self, label: Any) -> Array:
        """Each pixel's weight for ``label``: [H,W] float64; 0 where no feature was selected."""
        ids, columns = self._ids_and_columns()
        column_of, weights = places(ids), np.zeros(len(ids))
        for feature, weight in self._weights(label):
            if feature in column_of:  # with literal_labels, a column may have no pixels
                weights[column_of[feature]] = weight
        return weights[columns]

    def to_torchlime(self) -> Explanation:
        """This explanation as a :class:`torchlime.Explanation` of one image, on the CPU.

        The new segments are numbered 0…M−1 in the order of the caller's ids: segment m is the
        caller's ``segment_ids[m]``. Heatmaps and pixel masks are the same as here.

        The targets are the labels in the order of ``local_exp``. Standard errors are NaN where
        features were selected or the regressor is not torchlime's.

        Raises:
            ValueError: ``explain_instance`` did not make this explanation; or the mask columns do
                not stand for the segments, as with ``literal_labels=True``.
        """
        if self._samples is None:
            raise ValueError("only an explanation that explain_instance made can be converted")
        ids, columns = self._ids_and_columns()
        samples = self._samples
        if not np.array_equal(ids, samples.ids) or len(ids) != samples.masks.shape[1]:
            raise ValueError(
                f"the {samples.masks.shape[1]} mask columns do not stand for the {len(ids)} "
                "segments; explain without literal_labels=True"
            )
        weights = np.zeros((len(self.local_exp), len(ids)))
        column_of = places(ids)
        for row, ranked in enumerate(self.local_exp.values()):
            for feature, weight in ranked:
                weights[row, column_of[feature]] = weight
        return native_explanation(
            samples, columns, weights,
            intercepts=[self.intercept[label] for label in self.local_exp],
            fidelity=[self.scores[label] for label in self.local_exp],
            whole=all(len(ranked) == len(ids) for ranked in self.local_exp.values()),
        )  # fmt: skip

    def _weights(self, label: Any) -> list[tuple[Any, Any]]:
        if label not in self.local_exp:
            raise KeyError("Label not in explanation")
        return self.local_exp[label]

    def _ids_and_columns(self) -> tuple[Array, Array]:
        return ids_and_columns(np.asarray(to_numpy(self.segments)))
