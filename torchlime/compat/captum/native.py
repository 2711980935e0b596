"""A call's result as a :class:`torchlime.Explanation`."""

from typing import Any

import torch
from torch import Tensor

from torchlime._kinds import Masks
from torchlime._problems import Problem, flag
from torchlime._provenance import in_words, said_by
from torchlime.compat.captum.calling import Calls
from torchlime.compat.captum.feature_masks import Columns
from torchlime.explanation import Explanation
from torchlime.fit import Fit


def explanation_of(
    calls: Calls,
    columns: Columns,
    count: Tensor,
    samples: Any,
    fit: Fit,
    scores: Tensor,
    whole: bool,
    words: dict[str, Any],
) -> Explanation:
    """The Explanation of B examples, or of one batch.

    Args:
        calls, columns: what was explained.
        count: [B], the columns of each example.
        samples: design [B,N,F], scores [B,N,T] and weights [B,N].
        fit: of the samples.
        scores: [B,T], of the inputs as they are.
        whole: B is 1, for the whole batch.
        words: how it was made.
    """
    images = len(calls.inputs.tensors) == 1 and calls.inputs.tensors[0].dim() == 4
    kind = Masks("segment", "image") if images else Masks("feature", "input")
    fields = kind.fields(fit, samples.design, samples.weights, count)
    finite = [t.isfinite().reshape(len(t), -1).all(dim=1) for t in calls.inputs.tensors]
    broken = ~torch.stack([one.to(count.device) for one in finite]).all(dim=0)
    broken = broken.any(dim=0, keepdim=True) if whole else broken
    wrong = ~(samples.scores.isfinite().all(dim=1) & scores.isfinite()).all(dim=1)
    fields["problems"] = (
        fields["problems"]
        | flag(broken, Problem.NON_FINITE_IMAGE)
        | flag(wrong, Problem.NON_FINITE_SCORES)
    )
    batch = len(count)
    ids = None
    if columns.least:
        ids = torch.arange(columns.number, device=count.device) + columns.least
        ids = ids.expand(batch, -1)
    return Explanation(
        targets=calls.targets.numbers(batch, scores.shape[1]),
        scores=scores.to(fit.coefficients.dtype),
        segment_count=count,
        kind=kind,
        segments=calls.inputs.like(_maps(calls, columns, batch)),
        ids=ids,
        settings=in_words(**words),
        **said_by(calls.function),
        **fields,
    )


def _maps(calls: Calls, columns: Columns, batch: int) -> tuple[Tensor, ...]:
    """The column of each entry: [B,*axes], or [B,C,*axes] where channels differ."""
    maps = []
    for tensor, ids in zip(calls.inputs.tensors, columns.ids, strict=True):
        shape = tensor.shape[1:] or (1,)
        ids = ids[:batch] if tensor.dim() > 1 else ids[:batch, None]
        if tensor.dim() > 2 and ids.shape[1] == 1:
            maps.append(ids[:, 0].expand(batch, *shape[1:]))
        else:
            maps.append(ids.expand(batch, *shape))
    return tuple(maps)
