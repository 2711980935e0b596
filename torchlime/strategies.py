"""The contract of every strategy, with shapes.

There are B inputs, N samples, S features (the bound of the count) and T targets; images have C
channels, height H and width W. Inputs of another rank may stand in the place of images [B,C,H,W],
such as series [B,C,L] and volumes [B,C,D,H,W]. In a mask, True = kept. Arguments are passed by
position; arguments after the star are passed by name. A strategy modifies no argument and keeps the
device. It reads nothing back to the host.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from torchlime._kinds import Kind, Masks
from torchlime._labelmap import Segments
from torchlime.black_box import BlackBox, Model, called
from torchlime.fit import Fit

Block = tuple[slice, slice]  # inputs, samples: a rectangle of [B,N], its rows input by input
Rows = Callable[[list[Block], int], Any]  # blocks, n → a chunk of n rows; the rest is padding
Reference = Mapping[str, Tensor]


class SortedRows(Protocol):
    """Rows of several lengths, such as images whose hidden parts are left out.

    The samples of each input are sorted by falling length. Only sample 0 of the first round stays
    first. A chunk holds rows of one length.

    Attributes:
        lengths: [B][n], the lengths of the rows in this order, as Python numbers on the host.
    """

    lengths: Sequence[Sequence[int]]

    def __call__(self, blocks: list[Block], size: int, /) -> Any:
        """A chunk of ``size`` rows; its blocks count the samples in this order."""
        ...

    def unsorted(self, scores: Tensor, /) -> Tensor:
        """Scores [B,n,T] in the order of the design, from scores in this order."""
        ...


class Segmenter(Protocol):
    """images → segments."""

    def __call__(self, images: Tensor, /) -> Segments | Tensor:
        """A Segments of images [B,C,H,W]; or a label map as ``explain(segments=)`` takes it."""
        ...


class Sampler(Protocol):
    """count → design."""

    def __call__(
        self, count: Tensor, bound: int, num_samples: int, /, *, seed: int | Tensor
    ) -> Tensor:
        """Masks [B,N,S] bool, row 0 all kept, False beyond count [B] int64; or noise [B,N,S] float.

        If an attribute ``beside`` of the sampler is True, row 0 is a mask like the others. The
        input is then scored beside the design, as one more row that is not fitted. A method
        ``variance_factor(bound, num_samples)``, if there is one, gives a factor for the variances
        that are computed from the residuals. Pairs of complements need no such factor, because they
        are found in the masks. A method ``stopping_factor``, if there is one, gives a more careful
        factor for :class:`torchlime.rounds.Until`.

        ``seed`` is an int, for one draw that all inputs share (the result may be an expanded view),
        or an int64 tensor [B]. A method ``kept(count, num_samples, first)``, if there is one, says
        on the host how many of ``count`` features the rows from row ``first`` on keep.
        """
        ...


class EndlessSampler(Protocol):
    """A sampler with one endless design for each seed. Only further rounds need it.

    A method ``block(bound)``, if there is one, gives the number of rows of a block: a round of
    :class:`torchlime.rounds.Until` ends where a block ends. An attribute ``endless`` that is False
    says that there are no further rows, although the sampler takes ``first``.
    """

    def __call__(
        self, count: Tensor, bound: int, num_samples: int, /, *, seed: int | Tensor, first: int = 0
    ) -> Tensor:
        """Rows first … first + N − 1 of the design."""
        ...


class Fill(Protocol):
    """images, segments → what a hidden segment shows."""

    def __call__(self, images: Tensor, segments: Segments, /) -> Tensor:
        """A tensor [B,C,H,W], like the images.

        Where the caller gave soft masks, ``segments`` is a
        :class:`torchlime.segments.SoftSegments`.
        """
        ...


class Kernel(Protocol):
    """design → proximity weights.

    If a kernel has a method ``of_noise(noise, count)``, noise goes there. Otherwise noise is passed
    like masks. An attribute ``by_row`` that is True says that a row's weight does not depend on the
    other rows, so that sums over earlier rows stay as they are.
    """

    def __call__(self, masks: Tensor, count: Tensor, energy: Tensor | None = None, /) -> Tensor:
        """Weights [B,N] of masks [B,N,S] and count [B].

        ``energy`` [B,S] is Σ over the segment of (image − fill)². It is None unless the kernel's
        attribute ``needs_energy`` is true.
        """
        ...


class Surrogate(Protocol):
    """design, scores, weights → Fit.

    If a surrogate has a method ``of_noise`` with the same arguments, noise goes there. A method
    ``of_equations(equations)``, if there is one, fits :class:`torchlime.fit.NormalEquations` that
    grew from round to round. An attribute ``errors`` that is False says that its standard errors
    are NaN. An attribute ``few_samples`` that is True says that its coefficients do not need more
    samples than features, so that few samples are not a problem. An attribute ``together`` that is
    False says that it finds each coefficient by itself, so it cannot fit terms for pairs of
    features. An attribute ``through_input`` that is True says that it needs a row of the design
    that keeps all. Then samplers with the input beside the design are refused.
    """

    def __call__(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor, /) -> Fit:
        """The fit of masks [B,N,S], scores [B,N,T], weights [B,N] and count [B]."""
        ...


class Features(Protocol):
    """What the columns of a design stand for, and how the model gets a row as its input.

    A call makes the features once, from the inputs. Inherit from this class to get its defaults:
    masks, no energy, no problems, no further fields.

    Attributes:
        count: [B] int64, on the device of the inputs: how many features each has.
        bound: S, a Python number; count <= bound.
        kind: the kind of the design, and what features and inputs are called.
        chunk_size: rows of a forward pass, if the caller names no number.
        shared: the samples of all inputs are the same rows, except the inputs themselves. If
            classes are explained, the model gets each row once.
    """

    count: Tensor
    bound: int
    kind: Kind = Masks("feature", "input")
    chunk_size: int = 256
    shared: bool = False

    def rows(self, design: Tensor, box: BlackBox, first: int) -> Rows:
        """A function that makes chunks from the rows of a design, in the model's dtype and layout.

        Args:
            design: [B,n,S]. Masks hold all rows that the model gets. In the first round row 0 keeps
                all. If the sampler has the input beside the design, this row is not a row of the
                design.
            box: the model.
            first: the number of the design's first row, above 0 in later rounds. Noise does not
                hold the input, which is sample 0 of the first round.
        """
        raise NotImplementedError(f"{type(self).__name__} must define rows()")

    def call(self, model: Model, chunk: Any) -> Any:
        """The model's outputs of a chunk that :meth:`rows` made."""
        return called(model, chunk)

    def energy(self) -> Tensor | None:
        """Energy [B,S] for distances between inputs; None where there is none."""
        return None

    def problems(self, design: Tensor | None, box: BlackBox) -> Tensor:
        """Problems of inputs and design that only the device knows: bits of Problem [B] int64.

        Row 0 of the design [B,N,S] should be the input. Without a design, it is beside it.
        """
        return torch.zeros_like(self.count)

    def fields(self) -> dict[str, Tensor]:
        """The fields of the Explanation that describe the inputs, by name."""
        return {}


class Scores(Protocol):
    """Which scores of a model's outputs are explained; see :mod:`torchlime.targets`."""

    def reference(self, outputs: Any, rows: Tensor, /) -> Reference:
        """What each unmasked row fixes for all rows of its input, such as "targets" [n,T] int64."""
        ...

    def __call__(self, outputs: Any, rows: Tensor, reference: Reference, /) -> Tensor:
        """The scores [n,T] of outputs whose rows belong to the inputs ``rows`` [n]."""
        ...


class Rounds(Protocol):
    """How many samples are drawn, and when they are enough; see :mod:`torchlime.rounds`.

    :class:`torchlime.rounds.Until` decides for each input; others decide for all together.
    """

    def sizes(self, num_samples: int, /) -> Iterable[int]:
        """The number of samples of each round, at most ``num_samples`` in all."""
        ...

    def settled(self, fit: Fit, count: Tensor, /) -> bool:
        """Whether the fit to all samples so far is good enough. It may read one flag back."""
        ...
