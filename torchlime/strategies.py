"""The contract of every strategy, with shapes: what may stand in its place.

B inputs, C, H, W, N samples, S features (the bound of the count), T targets. In a mask True = kept.
Arguments are passed by position, those after the star by name. A strategy modifies no argument and
keeps the device. It reads nothing back to the host.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from torchlime._kinds import Kind, Masks
from torchlime._labelmap import Segments
from torchlime.black_box import BlackBox
from torchlime.fit import Fit

Block = tuple[slice, slice]  # inputs, samples: a rectangle of [B,N], its rows input by input
Rows = Callable[[list[Block], int], Any]  # blocks, n → a chunk of n rows; what is left is padding
Reference = Mapping[str, Tensor]


class Segmenter(Protocol):
    """images → segments."""

    def __call__(self, images: Tensor, /) -> Segments | Tensor:
        """A Segments of images [B,C,H,W]; or a label map [H,W] or [B,H,W] of any integers."""
        ...


class Sampler(Protocol):
    """count → design."""

    def __call__(
        self, count: Tensor, bound: int, num_samples: int, /, *, seed: int | Tensor
    ) -> Tensor:
        """Masks [B,N,S] bool, row 0 all kept, False beyond count [B] int64; or noise [B,N,S] float.

        ``seed`` is an int, for one draw that all inputs share (the result may be an expanded view),
        or an int64 tensor [B].
        """
        ...


class EndlessSampler(Protocol):
    """A sampler that has one endless design for a seed. Only further rounds need it."""

    def __call__(
        self, count: Tensor, bound: int, num_samples: int, /, *, seed: int | Tensor, first: int = 0
    ) -> Tensor:
        """Rows first … first + N − 1 of the design."""
        ...


class Fill(Protocol):
    """images, segments → what a hidden segment shows."""

    def __call__(self, images: Tensor, segments: Segments, /) -> Tensor:
        """[B,C,H,W], as the images are."""
        ...


class Kernel(Protocol):
    """design → proximity weights.

    Where a kernel has a method ``of_noise(noise, count)``, noise goes there; else noise is passed
    as masks are.
    """

    def __call__(self, masks: Tensor, count: Tensor, energy: Tensor | None = None, /) -> Tensor:
        """Weights [B,N] of masks [B,N,S] and count [B].

        ``energy`` [B,S] is Σ over the segment of (image − fill)²; it is None unless the kernel has
        an attribute ``needs_energy`` that is true.
        """
        ...


class Surrogate(Protocol):
    """design, scores, weights → Fit.

    Where a surrogate has a method ``of_noise`` with the same arguments, noise goes there.
    """

    def __call__(self, masks: Tensor, scores: Tensor, weights: Tensor, count: Tensor, /) -> Fit:
        """The fit of masks [B,N,S], scores [B,N,T], weights [B,N] and count [B]."""
        ...


class Features(Protocol):
    """What the columns of a design stand for, and how a row becomes an input of the model.

    They are made once a call, of the inputs. Inherit from this class to get what is usual: masks,
    no energy, no problems, no further fields.

    Attributes:
        count: [B] int64, on the device of the inputs: how many features each has.
        bound: S, a Python number; count <= bound.
        kind: of the design, and what features and inputs are called.
        chunk_size: rows of a forward pass, where the caller names none.
    """

    count: Tensor
    bound: int
    kind: Kind = Masks("feature", "input")
    chunk_size: int = 256

    def rows(self, design: Tensor, box: BlackBox, first: int) -> Rows:
        """What makes chunks of the rows of a design, in the dtype and layout of the model.

        Args:
            design: [B,n,S].
            box: the model.
            first: the number of the design's first row, above 0 in later rounds. Where the kind
                scores the input beside the design, the first round has it as sample 0.
        """
        raise NotImplementedError(f"{type(self).__name__} must define rows()")

    def energy(self) -> Tensor | None:
        """Energy [B,S] for distances between inputs; None where there is none."""
        return None

    def problems(self, design: Tensor, box: BlackBox) -> Tensor:
        """What only the device knows of inputs and design: bits of Problem [B] int64."""
        return torch.zeros_like(self.count)

    def fields(self) -> dict[str, Tensor]:
        """What the Explanation carries of the inputs, by the names of its fields."""
        return {}


class Scores(Protocol):
    """What of a model's outputs is explained; see :mod:`torchlime.targets`."""

    def reference(self, outputs: Any, rows: Tensor, /) -> Reference:
        """What each row fixes if it is an unmasked one: "targets" [n,T] int64 among it."""
        ...

    def __call__(self, outputs: Any, rows: Tensor, reference: Reference, /) -> Tensor:
        """The scores [n,T] of outputs whose rows belong to the inputs ``rows`` [n]."""
        ...


class Rounds(Protocol):
    """How many samples are drawn, and when they are enough; see :mod:`torchlime.rounds`."""

    def sizes(self, num_samples: int, /) -> Iterable[int]:
        """The samples of each round, at most ``num_samples`` in all."""
        ...

    def settled(self, fit: Fit, count: Tensor, /) -> bool:
        """Whether the fit to all samples so far is good enough. It may read one flag back."""
        ...
