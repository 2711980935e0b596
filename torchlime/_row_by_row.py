"""Rows of a table that share one draw, explained a few at a time.

The samples are drawn and scored once. The design, the weights and the scores of the samples differ
from row to row; they are made for a few rows, fitted, and dropped. So beside the explanation
itself, the memory does not grow with the number of rows.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from torchlime._hash import numbers
from torchlime._kinds import Masks
from torchlime._provenance import said_by
from torchlime._row_blocks import row_blocks
from torchlime._undisturbed import undisturbed
from torchlime.black_box import Forward, Model
from torchlime.explanation import Explanation
from torchlime.features import EveryRow, ScoredTable, Table
from torchlime.local import local_fit, local_scores
from torchlime.targets import Classes

_BINS_A_NUMBER = 32  # a group is 2**23 entries of masks on a CPU, or 2**18 numbers


def groups_of(table: Table, num_samples: int) -> list[slice]:
    """The rows, a few at a time."""
    entries = num_samples * table.bound // (_BINS_A_NUMBER if isinstance(table.kind, Masks) else 1)
    return [*row_blocks(len(table.x), entries, table.x.device)]


def fit_in_groups(
    model: Model,
    table: Table,
    classes: Classes,
    groups: list[slice],
    *,
    num_samples: int,
    forward: Forward,
    **strategies: Any,
) -> Explanation:
    """What :func:`torchlime.local.local_fit` gives for a table whose rows share their samples.

    Arguments and errors are its. The model gets the same rows.
    """
    with undisturbed(table.x.device):
        every = EveryRow(table, num_samples)
    batch, samples = len(table.x), num_samples - 1 + int(table.kind.beside)
    unread = table.x.new_zeros((), dtype=torch.bool)  # a table's rows depend on the draw alone
    if table.kind.beside:
        unread = unread.to(table.x.dtype)
    design = unread.expand(1, batch + samples, table.bound)
    scores = local_scores(model, every, Classes("all"), design, forward)[0]
    with undisturbed(table.x.device):
        bins, values = every.drawn(numbers(num_samples, table.count))
        drawn = (bins.to(torch.int8) if every.draws.mean.shape[1] < 128 else bins), values
    found = []
    for some in groups:
        part = ScoredTable(table, some, drawn, scores[:batch], scores[batch:])
        targets = classes.targets
        chosen = targets[some] if isinstance(targets, Tensor) else targets
        one = local_fit(
            _unchanged, part, dataclasses.replace(classes, targets=chosen),
            sampler=part.sampler, num_samples=num_samples, **strategies,
        )  # fmt: skip
        found.append(dataclasses.replace(one, scores=one.scores.clone()))  # not a view of all
    return dataclasses.replace(_joined(found), **said_by(model))


def _unchanged(scores: Tensor) -> Tensor:
    """A model of scores that are known."""
    return scores


def _joined(parts: list[Explanation]) -> Explanation:
    fields = [part.tensors() for part in parts]
    joined: dict[str, Any] = {n: torch.cat([one[n] for one in fields]) for n in fields[0]}
    return dataclasses.replace(parts[0], **joined)
