"""The scores of images under masks that the caller gives, without a design or a fit."""

from torch import Tensor

from torchlime._inputs import Extra, Inputs, as_inputs
from torchlime._several import leaves_of
from torchlime._undisturbed import undisturbed
from torchlime.black_box import Forward, Model
from torchlime.features.given import features_of
from torchlime.lime import AnyFill, AnyMap
from torchlime.local import local_scores
from torchlime.targets import Targets, scores_for


def score_masks(
    model: Model,
    images: Inputs,
    segments: AnyMap,
    fill: AnyFill,
    masks: Tensor,
    targets: Targets = None,
    *,
    top: int = 1,
    max_segments: int | None = None,
    extra: Extra = None,
    forward: Forward = Forward(),
) -> Tensor:
    """The model's scores [B,N,T] of images under given masks.

    Args:
        masks: [B,N,S] or [N,S] (for all images) bool, True = kept.
        targets: as for :meth:`Lime.explain`; None = the ``top`` best classes of the image's first
            row; "all" = every class in its order.
        forward: how rows pass through the model.

    The other arguments, the guarantees and the errors are those of :meth:`Lime.explain`.

    Example:
        >>> from torchlime.fills import Constant
        >>> import torch
        >>> image, halves = torch.ones(1, 1, 2, 2), torch.tensor([[0, 0], [1, 1]])
        >>> masks = torch.tensor([[True, True], [False, True], [False, False]])
        >>> score_masks(lambda x: x.mean((2, 3)), image, halves, Constant(0.0), masks).tolist()
        [[[1.0], [0.5], [0.0]]]
    """
    inputs = as_inputs(images, model)
    first = leaves_of(inputs)[0]
    with undisturbed(first.device):
        features = features_of(inputs, segments, fill, max_segments, extra)
    if isinstance(masks, Tensor) and masks.dim() == 2:
        masks = masks.expand(len(first), -1, -1)
    return local_scores(model, features, scores_for(inputs, targets, top), masks, forward)
