"""Classifier: a network from pixels in [0,1] to scores, and how photos are cut for it."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torchlime import plot
from torchlime._checks import device_of
from torchlime.black_box import Forward
from torchlime.explanation import row_of
from torchlime.local import scores_of_inputs
from torchlime.models.categories import called, listed, offers
from torchlime.models.geometry import Geometry, check_choice
from torchlime.models.limits import Limits
from torchlime.models.photos import name_of, read_photo
from torchlime.models.reading import check_size

if TYPE_CHECKING:
    from PIL import Image

    from torchlime.explanation import Explanation
    from torchlime.models.photos import PhotoLike

OUTPUTS = ("softmax", "logit", "sigmoid", "none")


def cut_photo(
    image: "Image.Image",
    geometry: Geometry,
    cut: "Callable[[Image.Image], Tensor]",
    name: str = "the photo",
    limits: Limits | None = None,
) -> Tensor:
    """The pixels [3,H,W] of an upright RGB photo, on the CPU: the second half of ``preprocess``.

    Raises:
        ValueError: resized for the network, ``name`` is larger than ``limits`` allow; None =
            ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    width, height = geometry.resized(image.size)
    check_size(width, height, f"{name} resized for the network", limits)
    return cut(image)


class Classifier(nn.Module):
    """A network that takes pixels and gives scores.

    Args:
        network: takes normalised images [n,3,H,W]; gives logits [n,K] or [n]: as its output, in
            ``.logits``, in ``["logits"]`` or first in a tuple.
        geometry: how its pictures are cut from photos, and its normalisation.
        categories: K names, if known.
        output: what a call gives. With the network's outputs z [n,K]:

            - "softmax": exp(z_k) / Σ_j exp(z_j), probabilities that sum to 1
            - "sigmoid": 1 / (1 + exp(−z_k)), each class by itself (multi-label, or one output)
            - "logit": z, where the network gives logits
            - "none": z, whatever the network gives, such as its own probabilities

            The last two compute the same; they say different things about z.
        cut: a function from an upright RGB photo to pixels [3,H,W] in [0,1], for networks whose
            own library does not cut as ``geometry.cut`` does.

    Example:
        >>> classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)),
        ...                         Geometry(resize=(2, 2), crop=None, fit="stretch"))
        >>> pixels = classifier.preprocess(torch.rand(3, 40, 60))
        >>> pixels.shape, classifier(pixels).shape
        (torch.Size([1, 3, 2, 2]), torch.Size([1, 5]))
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        geometry: Geometry | None = None,
        categories: Sequence[str] | None = None,
        *,
        output: str = "softmax",
        cut: "Callable[[Image.Image], Tensor] | None" = None,
    ) -> None:
        super().__init__()
        check_choice(output, OUTPUTS, "output")
        self.network = network
        self.geometry = geometry or Geometry()
        self.categories = None if categories is None else list(categories)
        self.output = output
        self.cut = cut or self.geometry.cut
        for name in ("mean", "std"):
            values = torch.tensor(getattr(self.geometry, name), device=device_of(network))
            self.register_buffer(name, values[:, None, None], persistent=False)

    def preprocess(self, photo: "PhotoLike", *, limits: Limits | None = None) -> Tensor:
        """Pixels [1,3,H,W] float32 in [0,1] of a photo, on the classifier's device.

        Takes what :func:`read_photo` takes, and raises what it raises. What
        :func:`read_photo_within` gave goes with its ``limits``.
        """
        image = read_photo(photo, limits=limits)
        pixels = cut_photo(image, self.geometry, self.cut, name_of(photo), limits)
        return pixels[None].to(self.mean.device)

    @torch.no_grad()
    def scores(self, pixels: Tensor, autocast: torch.dtype | None = None) -> Tensor:
        """Scores [B,K] of ``pixels`` [B,3,H,W], in eval mode and without gradients.

        The images are passed one by one, since a forward pass rounds differently in a batch of
        another size. So an image's scores do not depend on the images beside it.

        Args:
            pixels: in [0,1].
            autocast: a 16-bit dtype for the forward passes; None leaves the caller's.
        """
        return scores_of_inputs(self, pixels, Forward(chunk_size=1, autocast=autocast))

    def crop_box(self, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Where ``preprocess`` cuts a photo: see :meth:`Geometry.crop_box`."""
        return self.geometry.crop_box(image_size)

    def category(self, index: int) -> str:
        """The name of a class; "class 7" where it has none."""
        names = self.categories or []
        return names[index] if 0 <= index < len(names) else f"class {index}"

    @property
    def unit(self) -> str:
        """What a score is: "probability", "logit", or only "score"."""
        units = dict.fromkeys(("softmax", "sigmoid"), "probability") | {"logit": "logit"}
        return units.get(self.output, "score")

    def spell(self, score: float) -> str:
        """A score in words: "38.3%" for a probability, else four digits."""
        return f"{score:.1%}" if self.output in ("softmax", "sigmoid") else f"{score:.4g}"

    def called(self, name: str) -> list[int]:
        """The indices of the categories that ``name`` means, none if there are none.

        These are the categories of this name; else those with this synonym; else, for an ImageNet
        model and for categories that are WordNet ids, those that ImageNet calls so: "tabby cat",
        "n02123045". Case, spaces, underscores and hyphens do not count.

        >>> classifier = Classifier(nn.Identity(), categories=["tench", "n02123045", "crane"])
        >>> classifier.called("Tabby_cat"), classifier.called("giraffe")
        ([1], [])
        """
        return called(name, self.categories or [])

    def find_category(self, name: str) -> int:
        """The index of the one category that ``name`` means, see :meth:`called`; or ``int(name)``.

        Raises:
            ValueError: there is none (the message offers the nearest names), or several (the
                message lists them); or the name is not an index and the categories are not known.

        Example:
            >>> classifier = Classifier(nn.Identity(), categories=["tabby, tabby cat", "Tench"])
            >>> classifier.find_category("tabby cat"), classifier.find_category("tench")
            (0, 1)
        """
        if re.fullmatch("-?[0-9]{1,9}", name):
            index, count = int(name), len(self.categories or ())
            if index < 0 or (count and index >= count):
                raise ValueError(f"there is no class {name}" + f" among {count}" * bool(count))
            return index
        if self.categories is None:
            raise ValueError(
                f"the model's categories are not known, so {name!r} cannot be found: give an index"
            )
        found = self.called(name)
        if len(found) > 1:
            raise ValueError(
                f"several categories are called {name!r}: give the index of one of "
                f"{listed(found, self.categories)}"
            )
        if not found:
            raise ValueError(f"unknown category {name!r}{offers(name, self.categories)}")
        return found[0]

    def sheet(
        self,
        photo: "PhotoLike",
        explanation: "Explanation",
        row: int | None = None,
        target: int | str | None = None,
        *,
        top: int = 5,
        caption: str | None = None,
        max_side: int | None = None,
        limits: Limits | None = None,
    ) -> "Image.Image":
        """The whole explanation of a photo on one page, as the command line draws it.

        :func:`torchlime.plot.sheet` draws it on the original photo. What ``preprocess`` cut off is
        faded. The class has its name, and the score has its unit.

        Args:
            photo: the original photo; what :func:`read_photo` takes.
            explanation: of what ``preprocess`` made of that photo.
            row: the place of the photo in ``explanation``; None if that holds one image.
            target: one of the explained classes, by its index or its name; None is the first.
            top: the largest number of segments that are numbered.
            caption: text above; None is the class and its score.
            max_side: the largest longer side of the photo on the page, in pixels; None keeps it.
            limits: as for :func:`read_photo`.

        Raises:
            ValueError: several images and no ``row``; or the target is unknown, or not explained.
            Errors of :func:`read_photo` pass through.

        Example:
            >>> import torchlime
            >>> classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)),
            ...     Geometry(resize=(2, 2), crop=None, fit="stretch"), ["cat", "dog"])
            >>> photo = torch.rand(3, 40, 60)
            >>> explanation = torchlime.explain(classifier, classifier.preprocess(photo),
            ...     segments=torch.tensor([[0, 1], [2, 3]]), num_samples=16)
            >>> classifier.sheet(photo, explanation).mode
            'RGB'
        """
        explanation = explanation if row is None else explanation[row]
        wanted = self.find_category(target) if isinstance(target, str) else target
        place = row_of(explanation, wanted)
        index, score = explanation.targets[0, place].item(), explanation.scores[0, place].item()
        image, name = read_photo(photo, limits=limits), self.category(int(index))
        picture = plot.sheet(
            explanation,
            image,
            int(index),
            top,
            box=self.crop_box(image.size),
            caption=f"{name}: {self.unit} {self.spell(score)}" if caption is None else caption,
            max_side=max_side,
            name=name.partition(",")[0],
            unit=self.unit,
        )
        return plot.to_pil(picture)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores [n,K] of ``pixels`` [n,3,H,W] in [0,1], of any floating dtype."""
        return self.of_normalised(self.normalised(pixels))

    def normalised(self, pixels: Tensor) -> Tensor:
        """What the network takes for ``pixels`` [n,3,H,W]: each of them by itself is normalised."""
        normalised = (pixels - self.mean) / self.std
        dtypes = (p.dtype for p in self.network.parameters() if p.is_floating_point())
        return normalised.to(next(dtypes, normalised.dtype))

    def of_normalised(self, images: Tensor) -> Tensor:
        """Scores [n,K] of what :meth:`normalised` gave."""
        outputs = _logits(self.network(images))
        if self.output == "sigmoid":
            return outputs.sigmoid()
        if self.output == "softmax":
            if outputs.shape[1] == 1:
                raise ValueError(
                    "the network has one output, whose softmax is always 1; use output='sigmoid'"
                )
            return outputs.softmax(dim=1)
        return outputs

    def pixelwise_and_rest(
        self,
    ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] | None:
        """What a call does to every pixel by itself, and the rest of it.

        :class:`torchlime.black_box.BlackBox` looks for it: the first part runs once for an image
        and its fill, and not for every perturbed copy. None where a call is more than the two:
        under hooks, in a subclass with its own forward, and where the normalisation is trained.
        """
        hooks = self._forward_hooks or self._forward_pre_hooks or self._backward_hooks
        trained = self.mean.requires_grad or self.std.requires_grad
        own = type(self).forward is Classifier.forward and "forward" not in vars(self)
        return None if hooks or trained or not own else (self.normalised, self.of_normalised)


def _logits(outputs: Any) -> Tensor:
    """The tensor [n,K] within whatever a network returned."""
    if isinstance(outputs, Mapping):
        outputs = outputs.get("logits", outputs)
    elif hasattr(outputs, "logits"):
        outputs = outputs.logits
    elif isinstance(outputs, tuple | list):
        outputs = outputs[0]
    if not isinstance(outputs, Tensor) or outputs.dim() not in (1, 2):
        got = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise TypeError(
            f"a classifier's network gives logits [n,K] or [n], got {got}; for a segmentation "
            "network explain a Region (--target-region), for a detector a Box (--target-box)"
        )
    return outputs[:, None] if outputs.dim() == 1 else outputs
