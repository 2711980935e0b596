"""lime's image explainer on torchlime, in place of ``lime.lime_image``."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from torchlime._checks import device_of
from torchlime.compat.arrays import Array, to_numpy
from torchlime.compat.distances import exponential_kernel as exponential_kernel
from torchlime.compat.fitting import fit_labels
from torchlime.compat.image_explanation import ImageExplanation as ImageExplanation
from torchlime.compat.label_maps import ids_and_columns
from torchlime.compat.labels import asked_for, check_labels, most_probable
from torchlime.compat.lime_base import LimeBase, SeededByNumpy, check_random_state
from torchlime.compat.photos import (
    as_photos,
    hidden_pixels,
    segmented,
    segmenter_of,
    warn_of_one_segment,
)
from torchlime.compat.scikit_image import has_arg
from torchlime.compat.scores import LIME_BATCH_SIZE, check_classifier, masked_image, scores_of

if TYPE_CHECKING:
    from PIL.Image import Image


class LimeImageExplainer(SeededByNumpy):
    """Explains image classifiers, as lime does.

    Args:
        kernel_width: the kernel's width.
        kernel: ``kernel(d, kernel_width=...)``, distances float64 (n,) → weights (n,). None =
            √exp(−d²/width²).
        verbose: print the intercept and both predictions of every fit.
        feature_selection: auto, none, highest_weights, forward_selection or lasso_path.
        random_state: None (numpy's global one), an int or a ``RandomState``.
        literal_labels: repeat lime's error on label maps that are not 0…M−1, to compare with
            figures that lime made. Mask column z then hides label z, and its weight is listed under
            z. With a map 1…M, id 0 has no pixels and segment M is never hidden.

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

    literal_labels = False  # for subclasses with an __init__ of their own

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

    @overload
    def explain_instance(
        self,
        image: list[Any] | tuple[Any, ...],
        classifier_fn: Any,
        labels: Iterable[Any] = ...,
        hide_color: Any = ...,
        top_labels: int | None = ...,
        num_features: int = ...,
        num_samples: int = ...,
        batch_size: Any = ...,
        segmentation_fn: Any = ...,
        distance_metric: Any = ...,
        model_regressor: Any = ...,
        random_seed: int | None = ...,
        progress_bar: bool = ...,
        *,
        autocast: torch.dtype | None = ...,
    ) -> list[ImageExplanation]: ...

    @overload
    def explain_instance(
        self,
        image: "Array | Tensor | Image",
        classifier_fn: Any,
        labels: Iterable[Any] = ...,
        hide_color: Any = ...,
        top_labels: int | None = ...,
        num_features: int = ...,
        num_samples: int = ...,
        batch_size: Any = ...,
        segmentation_fn: Any = ...,
        distance_metric: Any = ...,
        model_regressor: Any = ...,
        random_seed: int | None = ...,
        progress_bar: bool = ...,
        *,
        autocast: torch.dtype | None = ...,
    ) -> ImageExplanation: ...

    def explain_instance(
        self,
        image: Any,
        classifier_fn: Any,
        labels: Iterable[Any] = (1,),
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
        """Explain the scores that ``classifier_fn`` gives ``image``.

        Args:
            image: an array [H,W,C] or [H,W] (made three equal channels), a PIL image, or a tensor
                [C,H,W]; a leading axis of 1 changes nothing. A list, or a longer leading axis,
                holds several images. Images of one shape share batches. (The type hints take any
                array for one image; for several images, pass ``list(batch)``.)
            classifier_fn: a function from an array [n,H,W,C] in the image's dtype to scores
                [n,classes] or [n] (array, list or tensor); or an nn.Module from floats [n,C,H,W],
                which runs on its device, in eval mode. The module sees 8-bit images scaled to
                [0,1], and others as they are.
            labels: the integers to explain; they have no effect unless ``top_labels`` is None or 0.
            hide_color: what hidden segments show: a number, one for each channel, or an image;
                None = the mean of each segment.
            top_labels: explain this many of the most probable labels.
            num_features: the largest number of segments in the explanation.
            num_samples: n, the number of masked images; the first is the image itself.
            batch_size: rows of one call; None or 0 = all rows of an image. "auto" = 10 for a
                function, as in lime. For a module, "auto" = as many rows as suit its device: on a
                CPU the pixels of 6 images of 224×224, or of 3 a thread if that is more, but at most
                64 rows (256 if images are smaller than 16×16); elsewhere the pixels of 256 such
                images, but at most 256 rows. The number is halved when memory runs out.
            segmentation_fn: image [H,W,C] → labels [H,W], any integers; or a segmenter of
                torchlime, or "slic". None = quickshift by scikit-image, or torchlime's Slic where
                scikit-image is missing. If an image has 2, 4 or more bands, quickshift sees all of
                them, each scaled by its own range.
            distance_metric: the distance between masks, for the kernel; any name that scikit-learn
                knows.
            model_regressor: see :meth:`LimeBase.explain_instance_with_data`.
            random_seed: the seed of the default segmentation.
            progress_bar: show a progress bar where tqdm is installed.
            autocast: torch.bfloat16 or torch.float16, for a module.

        Returns:
            ImageExplanation: a list of them for several images.

        Raises:
            IndexError: a label is not an integer, or the classifier lacks it.
            TypeError: the image is none of the above, or has integers of 16 bits or more for a
                module; or the classifier cannot be called.
            ValueError: the image's channels are on the wrong axis, or it has several pages;
                scores are not [n,classes] or not finite; every masked image has weight 0; a setting
                is unknown, or does not go with a function.
        """
        photos, several = as_photos(image)
        wanted = asked_for(labels, top_labels, stacklevel=2)
        hooked = getattr(self.data_labels, "__func__", None) is not LimeImageExplainer.data_labels
        if not hooked:
            check_classifier(classifier_fn)
        segmenter = segmenter_of(segmentation_fn, random_seed)
        device = device_of(classifier_fn) or torch.device("cpu")
        options = {"batch_size": batch_size, "progress_bar": progress_bar, "autocast": autocast}

        explained, masked, outcomes = [], [], []
        for photo in photos:
            if random_seed is None:  # lime draws one, whether or not anything uses it
                self.random_state.randint(0, high=1000)
            segments = segmented(photo, segmenter, device)
            warn_of_one_segment(segments, stacklevel=2)
            ids, columns = self._columns(segments)
            fudged = hidden_pixels(photo, columns, hide_color)
            explained.append((ImageExplanation(photo, segments), ids))
            if hooked:
                known = _known_options(self.data_labels, options, classifier_fn)
                outcomes.append(
                    self.data_labels(photo, fudged, columns, classifier_fn, num_samples, **known)
                )
            else:
                data = self._draw(len(ids), num_samples)
                masked.append(masked_image(photo, fudged, columns, data))
        if not hooked:
            check = partial(check_labels, wanted or [])
            scores = scores_of(masked, classifier_fn, **options, check_classes=check)
            outcomes = [(one.data, rows) for one, rows in zip(masked, scores, strict=True)]

        for (explanation, ids), (data, rows) in zip(explained, outcomes, strict=True):
            chosen = wanted
            if chosen is None:
                chosen = most_probable(rows[0], top_labels)
                explanation.top_labels = chosen[::-1]
            fit_labels(
                explanation, self.base, ids, data, rows, chosen, num_features=num_features,
                selection=self.feature_selection, metric=distance_metric, regressor=model_regressor,
            )  # fmt: skip
        explanations = [explanation for explanation, _ in explained]
        return explanations if several else explanations[0]

    def data_labels(
        self,
        image: Any,
        fudged_image: Any,
        segments: Any,
        classifier_fn: Any,
        num_samples: int,
        batch_size: Any = "auto",
        progress_bar: bool = True,
        *,
        autocast: torch.dtype | None = None,
    ) -> tuple[Array, Any]:
        """Draw masks and score the masked images; a subclass may override this method.

        Args:
            image: an array or tensor of any rank and dtype, such as [D,H,W], taken as it is. (A
                module takes [H,W,C] only.)
            fudged_image: what hidden segments show; broadcasts to the image.
            segments: labels of the image's first axes, such as [D,H,W], [D,H] or [D], with any ids.
                ``explain_instance`` passes the ids 0…M−1.
            classifier_fn: as for :meth:`explain_instance`; it gets [n,…], images of this shape.
            num_samples: n.
            batch_size: as for :meth:`explain_instance`.
            progress_bar: as for :meth:`explain_instance`.
            autocast: as for :meth:`explain_instance`.

        Returns:
            data: masks [n,M] int64, 1 = kept, drawn from ``random_state`` as lime does; the first
                row keeps all. Each column stands for an id of ``segments``, in ascending order.
            labels: scores [n,classes], an array in the function's dtype; for a module, a tensor on
                its device.

        Raises:
            IndexError: ``segments`` has another shape than the image's first axes.
        """
        ids, columns = self._columns(np.asarray(to_numpy(segments)))
        data = self._draw(len(ids), num_samples)
        masked = masked_image(image, fudged_image, columns, data)
        (labels,) = scores_of([masked], classifier_fn, batch_size, progress_bar, autocast)
        return data, labels

    def _columns(self, segments: Array) -> tuple[Array, Array]:
        """The id of each mask column [M], and the column of each pixel."""
        ids, columns = ids_and_columns(segments)
        return (np.arange(len(ids)), segments) if self.literal_labels else (ids, columns)

    def _draw(self, count: int, num_samples: int) -> Array:
        data = self.random_state.randint(0, 2, num_samples * count, dtype=np.int64)
        data = data.reshape(num_samples, count)
        data[0] = 1
        return data


def _known_options(
    hook: Callable[..., Any], options: dict[str, Any], classifier_fn: Any
) -> dict[str, Any]:
    """The options for the caller's own ``data_labels``; lime's two releases differ in them."""
    if options["batch_size"] == "auto" and not isinstance(classifier_fn, nn.Module):
        options = options | {"batch_size": LIME_BATCH_SIZE}
    if options["autocast"] is None:
        options = {name: value for name, value in options.items() if name != "autocast"}
    return {
        name: value for name, value in options.items()
        if name != "progress_bar" or has_arg(hook, name)
    }  # fmt: skip
