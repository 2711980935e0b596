"""Similarity: the cosine of a model's embedding and given ones, for networks such as CLIP's."""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from torchlime.strategies import Reference
from torchlime.targets.outputs import EMBEDDINGS, check_floats, named, of_name
from torchlime.targets.placing import (
    Described,
    Numbers,
    Place,
    check_batch,
    of_rows,
    on_device,
)


@dataclass(frozen=True, eq=False, repr=False)
class Similarity(Described):
    """How near the model's embedding [n,D] of an input is to another, such as a text's.

    The model returns a tensor [n,D], or an object or mapping with such "image_embeds" or
    "pooler_output".

    Convention:
        score = ⟨e, t⟩ / (‖e‖ ‖t‖), the cosine, in [−1,1]; 0 where an embedding is 0. Targets are
        numbered 0…T−1. Encode a text once and pass its embedding: a model that takes both would
        encode it again in every forward pass.

    Args:
        embedding: [D] or [T,D] for all inputs, or [B,T,D]; None = the input's own unmasked one.

    Raises:
        TypeError, ValueError: the embedding has another D than the model's, or there are not as
            many as inputs; the model's outputs are of another type or shape.

    Example:
        >>> east, rows = Similarity(torch.tensor([1.0, 0.0])), torch.tensor([0])
        >>> outputs = torch.tensor([[3.0, 4.0]])
        >>> east(outputs, rows, east.reference(outputs, rows))
        tensor([[0.6000]])
    """

    embedding: Numbers | None = None

    def placed(self, place: Place) -> Self:
        """The same on the device of the inputs, checked."""
        if self.embedding is None:
            return self
        embedding = on_device(self.embedding, "embedding", place)
        expected = "embedding must be numbers [D], [T,D] or [B,T,D]"
        if embedding.is_complex() or embedding.dtype == torch.bool:
            raise TypeError(f"{expected}, got {embedding.dtype}")
        if embedding.dim() not in (1, 2, 3) or 0 in embedding.shape:
            raise ValueError(f"{expected}, got {list(embedding.shape)}")
        if embedding.dim() == 3:
            check_batch(embedding, "embedding", place)
        return replace(self, embedding=embedding)

    def reference(self, outputs: Any, rows: Tensor) -> dict[str, Tensor]:
        """The directions [n,T,D] that embeddings are compared to."""
        own = _embeddings(outputs, rows)
        directions = normalize(own, dim=1)[:, None]
        if self.embedding is not None:
            given = torch.as_tensor(self.embedding, device=rows.device)
            if given.shape[-1] != own.shape[1]:
                raise ValueError(
                    f"embedding must have the D of the model's embeddings, {own.shape[1]}, got "
                    f"{list(given.shape)}"
                )
            given = given.reshape(-1, *given.shape[-2:]) if given.dim() > 1 else given[None, None]
            directions = of_rows(normalize(given.to(own.dtype), dim=2), rows)
        numbers = torch.arange(directions.shape[1], device=rows.device)
        return {"targets": numbers.expand(len(rows), -1), "directions": directions}

    def __call__(self, outputs: Any, rows: Tensor, reference: Reference) -> Tensor:
        """The cosines [n,T]."""
        own = normalize(_embeddings(outputs, rows), dim=1)
        return (own[:, None] * reference["directions"]).sum(dim=2)


def _embeddings(outputs: Any, rows: Tensor) -> Tensor:
    """The embeddings [n,D] within whatever a network returned, in float32 at least."""
    found, count = of_name(outputs, *EMBEDDINGS), len(rows)
    expected = f"for a Similarity the model must return floats [{count},D]"
    if not isinstance(found, Tensor):
        raise TypeError(
            f'{expected}, or such "image_embeds" or "pooler_output", got {named(outputs)}; wrap '
            "the model in a function that picks its embedding"
        )
    check_floats(found, rows, expected)
    if found.dim() != 2 or len(found) != count or 0 in found.shape:
        raise ValueError(f"{expected}, got {list(found.shape)}")
    return found.to(torch.promote_types(found.dtype, torch.float32))
