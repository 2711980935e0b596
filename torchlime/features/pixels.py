"""Pixels: the segments of images, hidden by showing a fill in their place.

An image is here an input [B,C,*axes] of any rank: a series [B,C,L], an image [B,C,H,W], a volume
[B,C,D,H,W]; or vectors [B,F].
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from torchlime._checks import check_made, check_same_device
from torchlime._kinds import IMAGES
from torchlime._labelmap import Segments, over_channels, segment_sums
from torchlime._precision import solve_dtype
from torchlime._problems import of_images
from torchlime._row_groups import joined
from torchlime._softmap import SoftSegments, blended, by_channel
from torchlime._undisturbed import without_autocast
from torchlime.black_box import BlackBox
from torchlime.strategies import Block, Features, Fill, Rows


class Pixels(Features):
    """The segments of images [B,C,*axes]: a hidden one shows the fill.

    Args:
        images: [B,C,*axes] or [B,F], floats, or integers such as the ids of words [B,L].
        segments: the segments of those images, or soft ones.
        fill: images, segments → what a hidden segment shows; or a tensor that broadcasts to the
            images.

    Raises:
        ValueError: the fill has another device or shape.
    """

    kind = IMAGES

    def __init__(
        self, images: Tensor, segments: Segments | SoftSegments, fill: Fill | Tensor | None
    ):
        self.images = images
        self.segments = segments
        self.fill = filled(fill, images, segments)
        self.count = segments.count
        self.bound = segments.bound
        self.chunk_size = default_chunk_size(images.device, images.shape[2:].numel())

    def rows(self, design: Tensor, box: BlackBox, first: int) -> Rows:
        """A function that makes the perturbed images of masks [B,n,S]."""
        make = Blended if isinstance(self.segments, SoftSegments) else Perturbed
        images, fill = self.images, self.fill
        if make is Perturbed and images.dim() == 4 and images.is_floating_point():
            images, fill = box.pixelwise(images, fill)
        return make(
            images,
            fill,
            self.segments,
            design,
            dtype=box.dtype,
            channels_last=box.channels_last and not box.contiguous,
            reuse=box.reuse,
        )

    def energy(self) -> Tensor | None:
        """[B,S]: Σ over the segment of (image − fill)²; None for soft segments."""
        if isinstance(self.segments, SoftSegments):
            return None  # the distance is no sum over overlapping segments
        dtype = solve_dtype(self.images.device)
        squares = (self.images.to(dtype) - self.fill.to(dtype)).square()
        if self.segments.labels.dim() < squares.dim():  # all channels have one map
            squares = squares.sum(dim=1, keepdim=True)
        return segment_sums(squares, self.segments).sum(dim=1)

    def problems(self, design: Tensor | None, box: BlackBox) -> Tensor:
        """Flags for non-finite images, segments that did not converge and masked first rows."""
        return of_images(self.images, self.segments.ok, self.count, design)

    def fields(self) -> dict[str, Tensor]:
        """The label map (the shares of soft segments), and the caller's ids."""
        labels = getattr(self.segments, "shares", getattr(self.segments, "labels", None))
        fields = {"segments": labels, "ids": self.segments.ids}
        return {name: values for name, values in fields.items() if values is not None}


def default_chunk_size(device: torch.device, pixels: int) -> int:
    """The number of images of a forward pass, if each has ``pixels`` pixels; 1 = no axes.

    On a CPU it is 1 to 64 images, with the pixels of 6 images of 224×224, or of 3 a thread if that
    is more. A layer's activations should stay in the caches, and below 32 MiB, from which glibc's
    allocator maps new memory for every tensor. For images smaller than 16×16 it is at most 256,
    with the pixels of 64 images of 16×16. On an accelerator it is 1 to 256 images, with the pixels
    of 256 images of 224×224.
    """
    pixels, rows, most = max(pixels, 1), 256, 256
    if device.type == "cpu":
        rows = max(6, 3 * torch.get_num_threads())
        most = 64 if pixels == 1 else min(max(2**14 // pixels, 64), most)
    return min(max(rows * 224**2 // pixels, 1), most)


def filled(
    fill: Fill | Tensor | None, images: Tensor, segments: Segments | SoftSegments | None
) -> Tensor:
    """What hidden parts of images show, like the images, checked.

    ``segments`` is None where there are none, which only suits fills of the whole image.

    Raises:
        TypeError, ValueError: it is no fill, or does not fit the images.
    """
    if fill is None:
        raise TypeError("fill is None, but the input has segments, which need a fill when hidden")
    check_made(fill, "fill")
    if not isinstance(fill, Tensor) and not callable(fill):
        raise TypeError(f"fill must be callable or a tensor for one input, got {fill!r}")
    found = fill if isinstance(fill, Tensor) else fill(images, segments)  # type: ignore[arg-type]
    if not isinstance(found, Tensor):
        raise TypeError(f"fill must return a tensor, got {type(found).__name__}")
    check_same_device(found, images, "fill")
    if not _holds(images.dtype, found.dtype):
        raise TypeError(
            f"fill must hold {images.dtype} as the inputs, got {found.dtype}; pass "
            f"fill.to({images.dtype}) if it has the range for your baselines"
        )
    try:
        return found.to(images.dtype).expand_as(images)
    except RuntimeError:
        raise ValueError(
            f"fill must broadcast to the images' {list(images.shape)}, got {list(found.shape)}"
        ) from None


def _holds(dtype: torch.dtype, other: torch.dtype) -> bool:
    """Whether a dtype holds what another does; floats round, and integers would wrap around."""
    if dtype.is_floating_point:
        return not other.is_complex
    return torch.promote_types(dtype, other) == dtype


class Perturbed:
    """The perturbed images of a batch, made a chunk at a time.

    A pixel of a kept segment shows the image; a pixel of a hidden segment shows the fill.

    Args:
        images: [B,C,*axes] or [B,F]. Integers keep their dtype.
        fill: like the images.
        segments: the segments of those images.
        masks: [B,N,S] bool, True = kept.
        dtype: the dtype that the model takes.
        channels_last: make chunks of images [B,C,H,W] in ``torch.channels_last`` (faster for
            convolutions on a CPU and in 16-bit types).
        reuse: write every chunk into one buffer; False where chunks must outlive the next call.

    Convention:
        A block is a pair of slices (images, samples), a rectangle of [B,N]; its rows run image by
        image. A chunk is the rows of its blocks, one after another.
    """

    _width = 0  # of an index; without one, nothing is kept

    def __init__(
        self,
        images: Tensor,
        fill: Tensor,
        segments: Any,
        masks: Tensor,
        *,
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
        reuse: bool = True,
    ):
        dtype = dtype if dtype and images.is_floating_point() else images.dtype
        self.channels_last = channels_last and images.dim() == 4
        self.reuse = reuse
        self.shape = images.shape[1:]
        self.images = self._flat(images.to(dtype))
        self.fill = self._flat(fill.to(dtype))
        self._take(segments, images.dim())
        self.masks = masks
        self._keep = torch.empty(0, 0, dtype=torch.uint8, device=images.device)
        self._pixels = self.images.new_empty(0, 0)
        self._indexed: tuple[slice, Tensor] | None = None

    def _take(self, segments: Segments, rank: int) -> None:
        labels = over_channels(segments.labels, rank)
        # Channels last, torch would select slowly along an inner axis of a few repeated values.
        channels = self.shape[0] if self.channels_last else labels.shape[1]
        self.labels = labels.expand(-1, channels, *self.shape[1:])
        self._width = self.labels.shape[1:].numel()
        self.background = segments.background

    def __call__(self, blocks: list[Block], rows: int) -> Tensor:
        """The perturbed images of ``blocks``: [rows,C,*axes].

        If ``rows`` exceeds the rows of the blocks, the rest is padding: valid images without
        meaning. With ``reuse`` the next call overwrites the result.
        """
        fresh = not self.reuse or rows != self._pixels.shape[0]
        if fresh:
            self.release()  # before taking new ones: this happens when memory ran out
            self._keep = self._keep.new_empty(rows, self._width)
            self._pixels = self._pixels.new_empty(rows, self.images.shape[1])
        start = 0
        for images, samples in joined(blocks):
            stop = start + (images.stop - images.start) * (samples.stop - samples.start)
            self._perturb(images, samples, slice(start, stop))
            start = stop
        if fresh and start < rows:
            self._pixels[start:].zero_()
        if not self.channels_last:
            return self._pixels.view(rows, *self.shape)
        channels, height, width = self.shape
        return self._pixels.view(rows, height, width, channels).permute(0, 3, 1, 2)

    def _perturb(self, images: slice, samples: slice, rows: slice) -> None:
        """Write the rows of one block."""
        perturb(
            self.images[images],
            self.fill[images],
            self._index(images),
            self._masks(images, samples),
            keep=self._keep[rows],
            out=self._pixels[rows],
        )

    def release(self) -> None:
        """Give the buffers back."""
        self._keep, self._pixels = self._keep.new_empty(0, 0), self._pixels.new_empty(0, 0)

    def _flat(self, tensor: Tensor) -> Tensor:
        """[b,C,*axes] → [b,P], its values in the order of the memory format."""
        return (tensor.permute(0, 2, 3, 1) if self.channels_last else tensor).flatten(1)

    def _index(self, images: slice) -> Tensor:
        """The segment of every value of an image, laid out as the images are: [b,P].

        Where all channels have one map and follow one another, it is that of a channel: [b,P/C].
        The last result is kept, because many chunks in a row are of the same image.
        """
        if self._indexed is None or self._indexed[0] != images:
            self._indexed = None  # release it before taking a new one
            index = self._flat(self.labels[images])
            if self.background:
                index = torch.where(index < 0, self.masks.shape[2], index)
            self._indexed = (images, index)
        return self._indexed[1]

    def _masks(self, images: slice, samples: slice) -> Tensor:
        """The masks [b,n,S] of a block; with a background [b,n,S+1], which keeps it."""
        masks = self.masks[images, samples]
        return pad(masks, (0, 1), value=True) if self.background else masks


class Blended(Perturbed):
    """As :class:`Perturbed`, for soft segments: a row is image · m + fill · (1 − m).

    1 − m is the sum of the shares of hidden segments, computed in float32 at least. Where m is 1
    or 0, the row is the image or the fill, bit for bit.
    """

    def _take(self, segments: SoftSegments, rank: int) -> None:  # type: ignore[override]
        shares = by_channel(segments.shares, rank) if rank > 2 else segments.shares
        self.shares = shares.movedim(2, -1) if self.channels_last else shares

    def _perturb(self, images: slice, samples: slice, rows: slice) -> None:
        layout = (*self.shape[1:], self.shape[0]) if self.channels_last else self.shape
        shares = self.shares[images]
        with without_autocast(shares.device):
            hidden = blended(~self.masks[images, samples], shares)
        image, fill = (
            values[images, None].unflatten(2, layout).to(shares.dtype)
            for values in (self.images, self.fill)
        )
        out = self._pixels[rows].view(*hidden.shape[:2], *layout)
        out.copy_(torch.lerp(image, fill, hidden))


def perturb(
    images: Tensor,
    fill: Tensor,
    index: Tensor,
    masks: Tensor,
    *,
    keep: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Perturbed values [b·n,P] of images [b,P], fill [b,P], segment index [b,p], masks [b,n,S].

    p divides P: the index repeats, for every channel of an image, say. It takes one gather and one
    where. ``keep`` [b·n,p] (uint8) and ``out`` [b·n,P] are written if given.
    """
    batch, samples, _ = masks.shape
    shape = (batch, samples, index.shape[1])
    images, fill = (values.view(batch, 1, -1, shape[2]) for values in (images, fill))
    kept = torch.gather(
        masks.contiguous().view(torch.uint8),  # torch vectorises a gather of bytes, not of bools
        2,
        index[:, None].expand(shape),
        out=None if keep is None else keep.view(shape),
    ).view(torch.bool)
    if out is None:
        out = images.new_empty(batch * samples, images[0].numel())
    rows = out.view(batch, samples, *images.shape[2:])
    torch.where(kept[:, :, None], images, fill, out=rows)
    return out
