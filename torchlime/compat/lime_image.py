"""lime's image explainer, on torchlime: what was ``lime.lime_image``."""

import operator
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import torchlime
from torchlime._checks import device_of
from torchlime._kinds import IMAGES
from torchlime.compat.lime_base import (
    Array,
    LimeBase,
    SeededByNumpy,
    check_random_state,
    native_surrogate,
    to_numpy,
)
from torchlime.compat.photos import (
    as_photos,
    dense,
    hidden_pixels,
    is_dense,
    segmented,
    segmenter_of,
    warn_of_renumbering,
)
from torchlime.compat.scikit_image import has_arg
from torchlime.compat.scores import LIME_BATCH_SIZE, Photo, scores_of
from torchlime.explanation import Explanation
from torchlime.surrogates import Fit


class PerLabel(dict[Any, Any]):
    """A value for each label, and at the same time the number that lime 0.2.0.1 kept of them.

    That number is the value of the last label explained: with ``top_labels`` the most probable.

    Example:
        >>> score = PerLabel({3: 0.5, 7: 0.75})
        >>> score[3], f"{score:.2f}", score > 0.7, round(score, 1)
        (0.5, '0.75', True, 0.8)
    """

    def __setitem__(self, label: Any, value: Any) -> None:
        self.pop(label, None)  # a label explained again is the last one
        super().__setitem__(label, value)

    def __float__(self) -> float:
        if not self:
            raise TypeError("no label is explained yet")
        return float(np.asarray(self[next(reversed(self))]).item())

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if self else super().__format__(spec)

    def __round__(self, digits: int | None = None) -> float:
        return round(float(self), digits)

    def __int__(self) -> int:
        return int(float(self))

    def __neg__(self) -> float:
        return -float(self)

    def __abs__(self) -> float:
        return abs(float(self))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(float(self), dtype=dtype)

    def __missing__(self, label: Any) -> Any:
        if label == 0 and self:  # lime 0.2.0.1's local_pred was an array (1,)
            return float(self)
        raise KeyError(label)

    @property
    def shape(self) -> tuple[int]:
        """(1,), that of lime 0.2.0.1's ``local_pred``."""
        return (1,)

    def item(self) -> float:
        """The number."""
        return float(self)

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) if isinstance(other, dict) else float(self) == other

    __hash__ = None


def _as_number(function: Callable[[Any, Any], Any], swapped: bool) -> Callable[[Any, Any], Any]:
    def method(self: PerLabel, other: Any) -> Any:
        mine, other = float(self), float(other) if isinstance(other, PerLabel) else other
        return function(other, mine) if swapped else function(mine, other)

    return method


for _name in ("lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(PerLabel, f"__{_name}__", _as_number(getattr(operator, _name), swapped=False))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(PerLabel, f"__r{_name}__", _as_number(getattr(operator, _name), swapped=True))


class _Samples(NamedTuple):
    """What an explanation was fitted to; kept for :meth:`ImageExplanation.to_torchlime`."""

    masks: Array  # [n,M] bool
    scores: Array  # [n,T], a column for each explained label
    weights: Array  # [n]
    targets: list[int]
    surrogate: Callable[..., Fit] | None
    settings: dict[str, Any]


class ImageExplanation:
    """The explanation of one image.

    Attributes:
        image: [H,W,C] as it was given; [H,W,3] of a grey one.
        segments: [H,W] labels 0…M−1.
        intercept: {label: intercept}.
        local_exp: {label: [(segment, weight), …]} by decreasing absolute weight.
        score: {label: weighted R²}; also a number, see :class:`PerLabel`.
        local_pred: {label: the model's prediction (1,) of the image}; also a number.
        top_labels: the most probable labels, best first; only where ``top_labels`` was asked for.
    """

    top_labels: list[Any]

    def __init__(self, image: Array, segments: Array) -> None:
        self.image = image
        self.segments = segments
        self.intercept: dict[Any, Any] = {}
        self.local_exp: dict[Any, list[tuple[Any, Any]]] = {}
        self.score = PerLabel()
        self.local_pred = PerLabel()
        self._samples: _Samples | None = None

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
            positive_only: the first ``num_features`` of weight above 0 and ``min_weight``.
            negative_only: the first ``num_features`` of negative weight, above ``min_weight`` by
                amount; needs ``positive_only=False``.
            hide_rest: 0 elsewhere, not the image.
            num_features: how many segments.
            min_weight: least absolute weight.

        Returns:
            image [H,W,C] in the image's dtype (float64 with ``hide_rest``) and mask [H,W] in that
            of the segments.

        Convention:
            The mask is 1 on the segments, of either sign. With neither sign asked for, it is −1
            where the weight is negative; those segments have the image's largest value in
            channel 0, the others in channel 1; and of the ``num_features`` strongest segments those
            below ``min_weight`` are left out, not replaced.

        Raises:
            KeyError: the label was not explained.
            ValueError: both signs are asked for.
        """
        if label not in self.local_exp:
            raise KeyError("Label not in explanation")
        if positive_only & negative_only:
            raise ValueError("Positive_only and negative_only cannot be true at the same time.")
        weights = self.local_exp[label]
        if positive_only:
            shown = [(f, w) for f, w in weights if w > 0 and w > min_weight][:num_features]
        elif negative_only:
            shown = [(f, w) for f, w in weights if w < 0 and -w > min_weight][:num_features]
        else:
            shown = [(f, w) for f, w in weights[:num_features] if not abs(w) < min_weight]

        picture = np.zeros(self.image.shape) if hide_rest else self.image.copy()
        mask = np.zeros(self.segments.shape, self.segments.dtype)
        both = not (positive_only or negative_only)
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
        if label not in self.local_exp:
            raise KeyError("Label not in explanation")
        heatmap = np.zeros(self.segments.shape)
        for feature, weight in self.local_exp[label]:
            heatmap[self.segments == feature] = weight
        return heatmap

    def to_torchlime(self) -> Explanation:
        """The same as a :class:`torchlime.Explanation` of one image, on the CPU.

        Targets are the labels in the order of ``local_exp``; standard errors are NaN where features
        were selected or the regressor is not torchlime's.

        Raises:
            ValueError: nothing is explained yet, or the labels are not 0…M−1.
        """
        samples = self._samples
        if samples is None:
            raise ValueError("an explanation that explain_instance made is needed")
        count = samples.masks.shape[1]
        if not is_dense(np.unique(self.segments)):
            raise ValueError("the segments are not 0…M−1 (literal_labels=True)")
        coefficients = torch.zeros(1, len(self.local_exp), count, dtype=torch.float64)
        for row, ranked in enumerate(self.local_exp.values()):
            for feature, weight in ranked:
                coefficients[0, row, int(feature)] = float(weight)
        masks, scores, weights = (
            torch.from_numpy(np.array(values))[None]
            for values in (samples.masks, samples.scores, samples.weights)
        )
        counts = torch.tensor([count])
        errors = torch.full_like(coefficients, torch.nan)
        whole = all(len(ranked) == count for ranked in self.local_exp.values())
        if samples.surrogate is not None and whole:
            errors = samples.surrogate(masks, scores, weights, counts).standard_errors
        fit = Fit(
            coefficients,
            _row(self.intercept.values()),
            _row(self.score[label] for label in self.local_exp),
            errors,
            torch.tensor([True]),
        )
        return Explanation(
            targets=torch.tensor([samples.targets]),
            scores=scores[:, 0],
            segments=torch.from_numpy(self.segments.astype(np.int64))[None],
            segment_count=counts,
            settings=samples.settings,
            masks=masks,
            sample_scores=scores,
            weights=weights,
            **IMAGES.fields(fit, masks, weights, counts),
        )


def exponential_kernel(d: Array, kernel_width: float) -> Array:
    """√exp(−d²/width²): lime's kernel, which underflows where lime's does, and pickles.

    >>> exponential_kernel(np.array([0.0, 0.25]), kernel_width=0.25)
    array([1.        , 0.60653066])
    """
    return np.sqrt(np.exp(-(d**2) / kernel_width**2))


class LimeImageExplainer(SeededByNumpy):
    """Explains image classifiers, as lime does.

    Args:
        kernel_width: of the kernel.
        kernel: ``kernel(d, kernel_width=...)``, distances float64 (n,) → weights (n,). None =
            exp(−d²/2·width²).
        verbose: print the intercept and both predictions of every fit.
        feature_selection: auto, none, highest_weights, forward_selection or lasso_path.
        random_state: None (numpy's global one), an int or a ``RandomState``.
        literal_labels: take label maps as they are even where labels are not 0…M−1. Then, as in
            lime, mask column z stands for label z, and some segments are never hidden.

    Example:
        >>> explainer = LimeImageExplainer(random_state=0)
        >>> image, halves = np.zeros((2, 4, 3)), np.array([[0, 0, 1, 1]] * 2)
        >>> image[:, 2:] = 1
        >>> explanation = explainer.explain_instance(
        ...     image, lambda images: images.mean(axis=(2, 3))[:, :1], hide_color=0,
        ...     segmentation_fn=lambda image: halves, num_samples=50, progress_bar=False)
        >>> int(explanation.local_exp[0][0][0])  # the strongest segment
        1
    """

    def __init__(
        self,
        kernel_width: float = 0.25,
        kernel: Callable[..., Any] | None = None,
        verbose: bool = False,
        feature_selection: str = "auto",
        random_state: Any = None,
        *,
        literal_labels: bool = False,
    ) -> None:
        kernel_fn = partial(kernel or exponential_kernel, kernel_width=float(kernel_width))
        self.random_state = check_random_state(random_state)
        self.feature_selection = feature_selection
        self.literal_labels = literal_labels
        self.base = LimeBase(kernel_fn, verbose, random_state=self.random_state)

    def explain_instance(
        self,
        image: Any,
        classifier_fn: Any,
        labels: Iterable[int] = (1,),
        hide_color: Any = None,
        top_labels: int | None = 5,
        num_features: int = 100000,
        num_samples: int = 1000,
        batch_size: Any = "auto",
        segmentation_fn: Any = None,
        distance_metric: Any = "cosine",
        model_regressor: Any = None,
        random_seed: int | None = None,
        progress_bar: bool = True,
        *,
        autocast: torch.dtype | None = None,
    ) -> Any:
        """Explain what ``classifier_fn`` sees in ``image``.

        Args:
            image: an array [H,W,C] or [H,W] (made three equal channels), a PIL image, or a tensor
                [C,H,W]; with a leading axis of 1 the same. A list, or a longer leading axis, is
                several images, whose rows share batches where their shapes agree.
            classifier_fn: a function from an array [n,H,W,C] in the image's dtype to scores
                [n,classes] or [n] (array, list or tensor); or an nn.Module from floats [n,C,H,W],
                which runs on its device, in eval mode. It sees 8-bit images scaled to [0,1], others
                as they are.
            labels: to explain; without effect unless ``top_labels`` is None or 0.
            hide_color: what hidden segments show: a number, one for each channel, or an image;
                None = the mean of each segment.
            top_labels: explain so many labels, the most probable.
            num_features: at most so many segments in the explanation.
            num_samples: n, masked images; the first is the image itself.
            batch_size: rows of a call; None or 0 = all of an image. "auto" = 10, lime's, for a
                function; 64 on a CPU and 256 elsewhere for a module, which halves it when memory
                runs out.
            segmentation_fn: image [H,W,C] → labels [H,W]; or a segmenter of torchlime, or "slic".
                None = quickshift by scikit-image, or torchlime's Slic where that is missing.
            distance_metric: between masks, for the kernel; any name that scikit-learn knows.
            model_regressor: see :meth:`LimeBase.explain_instance_with_data`.
            random_seed: of the default segmentation.
            progress_bar: show one, by tqdm where it is installed.
            autocast: torch.bfloat16 or torch.float16, for a module.

        Returns:
            ImageExplanation: or a list of them.

        Raises:
            TypeError: of an image that is none of the above, or of 16 bits or more for a module.
            ValueError: scores are not [n,classes] or not finite; a setting is unknown, or does not
                go with a function.
        """
        photos, several = as_photos(image)
        wanted = None if top_labels else list(labels)
        if wanted is None and not (isinstance(labels, tuple) and labels == (1,)):
            warnings.warn(
                f"labels has no effect beside top_labels={top_labels}; pass top_labels=None",
                stacklevel=2,
            )
        segmenter = segmenter_of(segmentation_fn, random_seed)
        device = device_of(classifier_fn) or torch.device("cpu")
        options = {"batch_size": batch_size, "progress_bar": progress_bar, "autocast": autocast}
        hooked = getattr(self.data_labels, "__func__", None) is not LimeImageExplainer.data_labels

        explained, prepared, outcomes, renumbered = [], [], [], False
        for photo in photos:
            if random_seed is None:  # lime draws one, whether or not anything uses it
                self.random_state.randint(0, high=1000)
            given = segmented(photo, segmenter, device)
            segments = given if self.literal_labels else dense(given)
            renumbered |= segments is not given
            fudged = hidden_pixels(photo, segments, hide_color)
            explained.append(ImageExplanation(photo, segments))
            if hooked:
                known = _known_options(self.data_labels, options, classifier_fn)
                outcomes.append(
                    self.data_labels(photo, fudged, segments, classifier_fn, num_samples, **known)
                )
            else:
                data = self._draw(segments, num_samples)
                prepared.append(Photo(photo, fudged, segments, data))
        if renumbered:
            warn_of_renumbering(stacklevel=3)
        if not hooked:
            scores = scores_of(prepared, classifier_fn, **options)
            outcomes = [(photo.data, rows) for photo, rows in zip(prepared, scores, strict=True)]

        for explanation, (data, scores_of_all) in zip(explained, outcomes, strict=True):
            chosen = wanted
            if chosen is None:
                ascending = np.argsort(to_numpy(scores_of_all[0]))[-top_labels:]  # type: ignore[operator]
                chosen = list(ascending)
                explanation.top_labels = chosen[::-1]
            self._fit(
                explanation, data, scores_of_all, chosen,
                num_features, distance_metric, model_regressor,
            )  # fmt: skip
        return explained if several else explained[0]

    def data_labels(
        self,
        image: Array,
        fudged_image: Array,
        segments: Array,
        classifier_fn: Any,
        num_samples: int,
        batch_size: Any = "auto",
        progress_bar: bool = True,
        *,
        autocast: torch.dtype | None = None,
    ) -> tuple[Array, Any]:
        """Draw masks and score the masked images; ``explain_instance`` calls what overrides it.

        Returns:
            data: [n,M] int64, 1 = kept, from ``random_state`` just as lime draws them; the first
                row keeps all.
            labels: scores [n,classes], an array in the function's dtype; of a module a tensor on
                its device.
        """
        given = segments
        segments = given if self.literal_labels else dense(given)
        if segments is not given:
            warn_of_renumbering(stacklevel=3)
        photo = Photo(image, fudged_image, segments, self._draw(segments, num_samples))
        (labels,) = scores_of([photo], classifier_fn, batch_size, progress_bar, autocast)
        return photo.data, labels

    def _draw(self, segments: Array, num_samples: int) -> Array:
        count = len(np.unique(segments))
        data = self.random_state.randint(0, 2, num_samples * count, dtype=np.int64)
        data = data.reshape(num_samples, count)
        data[0] = 1
        return data

    def _fit(
        self,
        explanation: ImageExplanation,
        data: Array,
        scores: Array | Tensor,
        labels: list[Any],
        num_features: int,
        metric: Any,
        regressor: Any,
    ) -> None:
        distances = _distances(data, metric)
        for label in labels:
            (
                explanation.intercept[label],
                explanation.local_exp[label],
                explanation.score[label],
                explanation.local_pred[label],
            ) = self.base.explain_instance_with_data(
                data, scores, distances, label, num_features,
                feature_selection=self.feature_selection, model_regressor=regressor,
            )  # fmt: skip
        explanation._samples = _Samples(
            masks=data != 0,
            scores=to_numpy(scores[:, list(explanation.local_exp)]).astype(np.float64),
            weights=np.broadcast_to(self.base.kernel_fn(distances), len(data)).astype(np.float64),
            targets=[int(label) % scores.shape[1] for label in explanation.local_exp],
            surrogate=native_surrogate(regressor),
            settings={
                "kernel": repr(self.base.kernel_fn),
                "distance_metric": str(metric),
                "surrogate": native_surrogate(regressor) or repr(regressor),
                "feature_selection": self.feature_selection,
                "num_samples": len(data),
                "torchlime": torchlime.__version__,
                "torch": str(torch.__version__),
            },
        )


def _known_options(
    hook: Callable[..., Any], options: dict[str, Any], classifier_fn: Any
) -> dict[str, Any]:
    """The options for someone's own ``data_labels``: lime's two releases have different ones."""
    if options["batch_size"] == "auto" and not isinstance(classifier_fn, nn.Module):
        options = options | {"batch_size": LIME_BATCH_SIZE}
    if options["autocast"] is None:
        options = {name: value for name, value in options.items() if name != "autocast"}
    return {
        name: value for name, value in options.items()
        if name != "progress_bar" or has_arg(hook, name)
    }  # fmt: skip


def _distances(data: Array, metric: Any) -> Array:
    """Distance of each row of ``data`` [n,M] to the first: [n] float64."""
    rows = data.astype(np.float64)
    if isinstance(metric, str) and metric == "cosine":
        lengths = np.linalg.norm(rows, axis=1)
        lengths[lengths == 0] = 1
        return (1 - rows @ rows[0] / (lengths * lengths[0])).clip(0, 2)
    if isinstance(metric, str) and metric == "euclidean":
        return np.linalg.norm(rows - rows[0], axis=1)
    try:
        from sklearn.metrics import pairwise_distances
    except ImportError as error:
        raise ImportError(
            f"distance_metric={metric!r} needs scikit-learn: pip install 'torchlime[lime]'"
        ) from error
    return pairwise_distances(data, data[:1], metric=metric).ravel()


def _row(values: Iterable[Any]) -> Tensor:
    return torch.tensor([[float(value) for value in values]], dtype=torch.float64)
