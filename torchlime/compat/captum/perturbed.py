"""Perturbed inputs: from rows of a design to tuples of tensors, a chunk at a time."""

from typing import Protocol

import torch
from torch import Tensor

from torchlime.black_box import BlackBox
from torchlime.compat.captum.arguments import Baseline, Inputs
from torchlime.compat.captum.feature_masks import Columns
from torchlime.strategies import Block


class Design(Protocol):
    """Masks of all rows: a tensor [B,N,F] bool, or what makes them when they are needed."""

    def __getitem__(self, block: tuple[slice, slice], /) -> Tensor:
        """The masks [b,n,F] of a block (examples, samples)."""
        ...


class Perturbed:
    """Makes chunks in which hidden features show the baselines.

    A chunk's dtype is what Captum's arithmetic gives: that of input and baseline together. A hidden
    NaN or infinity does not reach the chunk (in Captum 0·NaN does).

    Args:
        inputs: the inputs, B examples.
        columns: which column each entry belongs to.
        design: [B,N,F] bool, True = kept; it may be an expanded view, or a :class:`Design`.
        box: the model, which says in which layout images are fastest.
        whole: a sample is the whole batch: one row of the design for all examples.
    """

    def __init__(
        self,
        inputs: Inputs,
        columns: Columns,
        design: Tensor | Design,
        box: BlackBox | None = None,
        whole: bool = False,
    ):
        self.design = design
        self.whole = whole
        self.parts = [
            _Part(tensor, base, ids, box)
            for tensor, base, ids in zip(inputs.tensors, inputs.baselines, columns.ids, strict=True)
        ]
        self.batch = inputs.batch
        self.given_rows = [len(tensor) for tensor in inputs.given]

    def __call__(self, blocks: list[Block], size: int) -> tuple[Tensor, ...]:
        """The rows of blocks (examples, samples), input by input, as tensors [size,…].

        There is no padding: the blocks have ``size`` rows. With ``whole`` they are samples of the
        batch, and each has B rows of the tensors.
        """
        if self.whole and self.batch > 1:
            blocks = [
                (slice(0, self.batch), slice(s, s + 1))
                for _, samples in blocks
                for s in range(samples.start, samples.stop)
            ]
        rows = sum((b.stop - b.start) * (s.stop - s.start) for b, s in blocks)
        chunk = tuple(part.empty(rows) for part in self.parts)
        start = 0
        for examples, samples in blocks:
            masks = self.design[examples, samples]
            stop = start + masks.shape[0] * masks.shape[1]
            for part, out in zip(self.parts, chunk, strict=True):
                part.write(examples, masks, out[start:stop])
            start = stop
        if self.whole and self.batch > 1:  # inputs of one row for all examples stay so
            every = zip(chunk, self.given_rows, strict=True)
            chunk = tuple(out if rows == self.batch else out[:: self.batch] for out, rows in every)
        return chunk


class _Part:
    """One of the inputs.

    On a CPU it works on bits: baseline ^ (kept & (input ^ baseline)), where ``kept`` is all ones or
    all zeros. There, this is about 5 times as fast as ``torch.where``, and as exact.
    """

    def __init__(self, tensor: Tensor, base: Baseline, ids: Tensor, box: BlackBox | None):
        dtype = torch.result_type(tensor, base)
        self.tensor = tensor.to(dtype)
        ones = (1,) * tensor.dim()
        self.nothing = not isinstance(base, Tensor) and base == 0
        if isinstance(base, Tensor):
            base = base.to(tensor.device, dtype)
            self.base = base if base.dim() else base.view(ones)
        else:  # made on the device, so that nothing is uploaded
            self.base = torch.full(ones, base, dtype=dtype, device=tensor.device)
        self.ids = ids.reshape(len(ids), -1)
        self.shape = ids.shape[1:]
        self.box = box
        on_host = tensor.device.type == "cpu" and tensor.layout == torch.strided
        self.carrier = _CARRIERS.get(dtype.itemsize) if on_host else None
        if self.carrier is not None:
            self.base_bits = self.base.contiguous().view(self.carrier)
            self.difference = self.tensor.contiguous().view(self.carrier) ^ self.base_bits

    def empty(self, rows: int) -> Tensor:
        """Room for rows, in the layout in which the model is fastest."""
        shape = (rows, *self.tensor.shape[1:])
        box = self.box
        wanted = box is not None and box.channels_last and not box.contiguous
        if wanted and self.tensor.dim() == 4 and self.tensor.is_floating_point():
            layout = torch.channels_last
            return torch.empty(
                shape, dtype=self.tensor.dtype, device=self.tensor.device, memory_format=layout
            )
        return self.tensor.new_empty(shape)

    def write(self, examples: slice, masks: Tensor, out: Tensor) -> None:
        """Write the rows of masks [b,n,F] of examples to ``out`` [b·n,…]."""
        batch, samples, _ = masks.shape
        ids = _of(self.ids, examples)[:, None].expand(batch, samples, -1)
        out = out.view(batch, samples, *out.shape[1:])
        bits = masks.contiguous().view(torch.int8)  # torch vectorises a gather of bytes, not bools
        if self.carrier is None:
            kept = bits.gather(2, ids).view(torch.bool).view(batch, samples, *self.shape)
            base = _of(self.base, examples)[:, None]
            torch.where(kept, self.tensor[examples, None], base, out=out)
            return
        ones = bits.neg().gather(2, ids).to(self.carrier).view(batch, samples, *self.shape)
        found = out.view(self.carrier)
        torch.bitwise_and(ones, self.difference[examples, None], out=found)
        if not self.nothing:
            found.bitwise_xor_(_of(self.base_bits, examples)[:, None])


_CARRIERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes


def _of(values: Tensor, examples: slice) -> Tensor:
    """Values of examples; one for all stays one."""
    return values[examples] if len(values) > 1 else values
