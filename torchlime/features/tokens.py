"""Tokens: the patches of a vision transformer, left out where they are hidden."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from torchlime._checks import check_same_device
from torchlime._kinds import IMAGES
from torchlime._labelmap import Segments, as_segments, segment_sizes, segment_sums
from torchlime._problems import of_images
from torchlime._row_blocks import row_blocks
from torchlime.black_box import BlackBox, Model
from torchlime.features._vit import Grid, Vit
from torchlime.features.pixels import default_chunk_size
from torchlime.strategies import Block, Features, Rows

Kept = Callable[..., Sequence[int]]


class Tokens(Features):
    """The patches of images [B,C,H,W], or groups of them; hidden ones are no token of the network.

    The network embeds every image of a chunk once. Behind the embedding each row goes on with the
    tokens before the patches, such as the class token, and with the patches that it keeps. So there
    is no fill, and a row that hides half of the patches costs about half a forward pass. Pooling
    averages what is left.

    Convention:
        Patches are numbered by rows of the grid. A row that keeps no patch is scored from the
        tokens before the patches. Heads that average the patches give NaN then, which a problem of
        the explanation says. Without any token the row is an error.

        Rows of one length share a forward pass. On a CPU the lengths are counted. On another device
        they are known if all features have as many patches in every image and the sampler says how
        many features it keeps (:meth:`torchlime.masks.Sizes.kept`). Else the numbers of kept
        patches [B,N] are read back once a round: the one documented wait.

    Args:
        images: [B,C,H,W] float.
        vit: the vision transformer in the model.
        grid: its patches of these images.
        groups: the features as segments of the grid, a label for each patch; None = every patch.
            Patches of the background are kept in every row.
        kept: (count, number of rows, first row) → how many features each row of the design keeps.
        size: how many patches each group has, if that is one number for all groups.

    Raises:
        ValueError: the groups do not fit the grid.
    """

    kind = IMAGES

    def __init__(
        self,
        images: Tensor,
        vit: Vit,
        grid: Grid,
        groups: Segments | None = None,
        kept: Kept | None = None,
        size: int | None = None,
    ):
        self.images = images
        self.vit = vit
        self.grid = grid
        self.groups = patches_of(images, grid) if groups is None else groups
        self.count = self.groups.count
        self.bound = self.groups.bound
        self.chunk_size = default_chunk_size(images.device, images[0, 0].numel())
        self._each = groups is None
        self._size = 1 if groups is None else size
        self._sizes = segment_sizes(self.groups)  # [B,S] patches of each feature
        self._always = (self.groups.labels < 0).flatten(1).sum(dim=1)  # [B]
        self._kept = kept

    def rows(self, design: Tensor, box: BlackBox, first: int) -> Rows:
        """A function that says what the rows of masks [B,n,S] keep of which images."""
        count = self._counted(design)
        unmasked = count.new_zeros(count.shape)
        unmasked[:, 0] = self.grid.patches + 1 if first == 0 else 0  # row 0 stays the first
        order = (count + unmasked).argsort(dim=1, descending=True, stable=True)
        lengths = self._lengths(design, count, order, first)
        if not self.vit.prefix and any(0 in row for row in lengths):
            raise ValueError(
                "a row of the design hides every patch, and this network has no other token; "
                "Sizes() never does, and Bernoulli() hardly ever"
            )
        labels = None if self._each else self.groups.labels.flatten(1)
        if self.groups.background and labels is not None:  # it has the column behind the last one
            labels = torch.where(labels < 0, self.bound, labels)
        images = self.images.to(box.dtype or self.images.dtype)
        background = self.groups.background
        return KeptPatches(images, labels, design, order, lengths, background)

    def call(self, model: Model, chunk: Any) -> Any:
        """The outputs [n,…] of a model that embeds the images of a chunk and goes on with rows."""
        with self.vit.cutting(len(chunk.images), chunk.inputs, chunk.kept, self.grid.patches):
            return model(chunk.images)

    def problems(self, design: Tensor | None, box: BlackBox) -> Tensor:
        """Flags for non-finite images, groups that did not converge and masked first rows."""
        return of_images(self.images, self.groups.ok, self.count, design)

    def fields(self) -> dict[str, Tensor]:
        """The label map [B,H,W], at the size of the images, and the caller's ids."""
        patches = pixel_patches(self.images, self.grid)
        fields = {"segments": self.groups.labels.flatten(1)[:, patches], "ids": self.groups.ids}
        return {name: values for name, values in fields.items() if values is not None}

    def _counted(self, design: Tensor) -> Tensor:
        """How many patches each row of masks [B,n,S] keeps: [B,n] int64."""
        if self._each:
            return design.sum(dim=2)
        sizes = self._sizes[:, None]
        blocks = row_blocks(design.shape[1], design.shape[0] * self.bound, design.device)
        parts = [torch.where(design[:, rows], sizes, 0).sum(dim=2) for rows in blocks]
        return torch.cat(parts, dim=1) + self._always[:, None]

    def _lengths(
        self, design: Tensor, count: Tensor, order: Tensor, first: int
    ) -> Sequence[Sequence[int]]:
        """Patches of each row, in its order, as numbers of the host [B][n]."""
        known = self.known_lengths(design.shape[1], first)
        if known is None or design.device.type == "cpu":
            return count.gather(1, order).tolist()  # the documented read-back
        return [known] * len(design)

    def known_lengths(self, number: int, first: int) -> list[int] | None:
        """Patches of the rows from row ``first`` on, sorted, where that needs no device."""
        if self._kept is None or self._size is None:
            return None
        if first == 0 and number == 1:  # no sampler draws the input alone
            return [self._size * self.bound]
        kept = [self._size * number for number in self._kept(self.bound, number, first)]
        lead = kept[:1] if first == 0 else []
        return lead + sorted(kept[len(lead) :], reverse=True)


class Chunk(NamedTuple):
    """Rows of a forward pass: images [b,C,H,W], the image of each row [n], its patches [n,k]."""

    images: Tensor
    inputs: Tensor
    kept: Tensor


class KeptPatches:
    """The rows of a design by falling length (:class:`torchlime.strategies.SortedRows`).

    Args:
        images: [B,C,H,W], in the dtype of the model.
        labels: [B,P] int64, the feature of each patch; None = its own number.
        design: [B,n,S] bool, True = kept.
        order: [B,n] int64, the samples by falling length.
        lengths: [B][n], how many patches the rows keep in that order.
        background: whether labels may be S, the feature of what every row keeps.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor | None,
        design: Tensor,
        order: Tensor,
        lengths: Sequence[Sequence[int]],
        background: bool = False,
    ):
        self.images = images
        self.labels = labels
        self.design = design
        self.order = order
        self.lengths = lengths
        self.background = background

    def __call__(self, blocks: list[Block], size: int) -> Chunk:
        """A chunk of ``size`` rows; those beyond the blocks repeat the last one."""
        length = self.lengths[blocks[0][0].start][blocks[0][1].start]
        images = torch.cat([self.images[inputs] for inputs, _ in blocks])
        kept = torch.cat([self._patches(*block) for block in blocks])
        rows = kept.argsort(dim=1, descending=True, stable=True)[:, :length]
        inputs, start = [], 0
        for numbers, samples in blocks:
            stop = start + numbers.stop - numbers.start
            own = torch.arange(start, stop, device=kept.device)
            inputs.append(own[:, None].expand(-1, samples.stop - samples.start).flatten())
            start = stop
        return Chunk(images, _padded(torch.cat(inputs), size), _padded(rows, size))

    def unsorted(self, scores: Tensor) -> Tensor:
        """Scores [B,n,T] in the order of the design."""
        places = self.order.argsort(dim=1)
        return scores.gather(1, places[..., None].expand(scores.shape))

    def _patches(self, inputs: slice, samples: slice) -> Tensor:
        """Which patches the rows of a block keep: [rows,P] uint8."""
        order = self.order[inputs, samples, None]
        masks = self.design[inputs].gather(1, order.expand(-1, -1, self.design.shape[2]))
        if self.background:
            masks = pad(masks, (0, 1), value=True)
        if self.labels is not None:
            labels = self.labels[inputs, None].expand(-1, masks.shape[1], -1)
            masks = masks.gather(2, labels)
        return masks.flatten(0, 1).view(torch.uint8)


def _padded(rows: Tensor, size: int) -> Tensor:
    return torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])


def patches_of(images: Tensor, grid: Grid) -> Segments:
    """Every patch of the images as a segment [B,rows,columns] of the grid."""
    labels = torch.arange(grid.patches, device=images.device).view(grid.rows, grid.columns)
    count = torch.full((1,), grid.patches, device=images.device)
    batch = len(images)
    return Segments(
        labels.expand(batch, -1, -1), count.expand(batch), (count > 0).expand(batch), grid.patches
    )


def pixel_patches(images: Tensor, grid: Grid) -> Tensor:
    """The patch of each pixel: [H,W] int64. Pixels beyond the last patch belong to it."""
    row, column = (
        (torch.arange(size, device=images.device) * seen // (size * patch)).clamp(max=number - 1)
        for size, seen, patch, number in zip(
            images.shape[2:], grid.seen, grid.patch, grid[:2], strict=True
        )
    )
    return row[:, None] * grid.columns + column


def pooled(images: Tensor, grid: Grid) -> Tensor:
    """The mean colour of each patch: images [B,C,rows,columns], in the dtype of the images."""
    labels = pixel_patches(images, grid).expand(len(images), -1, -1)
    patches = Segments(labels, *patches_of(images, grid)[1:])
    sizes = segment_sizes(patches)[:, None]
    means = (segment_sums(images, patches) / sizes).to(images.dtype)
    return means.unflatten(2, (grid.rows, grid.columns))


def as_groups(groups: Any, images: Tensor, grid: Grid, max_segments: int | None = None) -> Segments:
    """A caller's map of the patches, [rows,columns] or [B,rows,columns], as segments of the grid.

    Raises:
        TypeError, ValueError: it does not fit the grid.
    """
    shape = tuple(getattr(groups.labels if isinstance(groups, Segments) else groups, "shape", ()))
    if shape[-2:] != grid[:2]:
        raise ValueError(
            f"segments must label the {grid.rows}×{grid.columns} patches of the network, as "
            f"[{grid.rows},{grid.columns}] or [B,{grid.rows},{grid.columns}], got {list(shape)}"
        )
    like = images[:, :1, :1, :1].expand(-1, 1, grid.rows, grid.columns)
    if isinstance(groups, Tensor):
        check_same_device(groups, images, "segments")
    return as_segments(groups, like, max_segments)
