"""A vision transformer: which patches it makes of an image, and how tokens are cut behind them."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torchlime.black_box import BlackBox
from torchlime.features._hooks import Rotated, hooked


class Grid(NamedTuple):
    """The patches of an image: their number along the axes, and how many pixels each covers."""

    rows: int
    columns: int
    patch: tuple[int, int]
    seen: tuple[int, int]  # height and width of the image that the network gets

    @property
    def patches(self) -> int:
        """How many patches there are."""
        return self.rows * self.columns


@dataclass(frozen=True, eq=False)
class Vit:
    """A vision transformer, and where its tokens can be cut.

    Args:
        tokens: the module whose output, or with ``before`` whose input, is the tokens
            [n,prefix+P,D].
        prefix: how many tokens come before the patches.
        before: whether they are the module's input.
        stem: the convolution that makes the patches, if known.
        angles: a module whose output are rotary angles of the patches.
        blocks: modules that are given such angles as ``rope``.
    """

    tokens: nn.Module
    prefix: int
    before: bool = False
    stem: nn.Conv2d | None = None
    angles: nn.Module | None = None
    blocks: tuple[nn.Module, ...] = ()

    def grid(self, box: BlackBox, image: Tensor) -> Grid:
        """The patches of an image [1,C,H,W]. The model runs as far as its embedding.

        Raises:
            ValueError: the network does not embed the image, or its patches are no grid.
        """
        height, width = image.shape[2:]
        with hooked() as hooks, box.prepared():
            if self.stem is None:
                hooks.before(self.tokens, _stop_at_tokens)
            else:
                hooks.after(self.stem, _stop_at_patches)
            try:
                box.model(image.to(box.dtype or image.dtype))
            except _Seen as found:
                got, made = found.args
            else:
                raise ValueError(_NEVER)
        if self.stem is None:
            return _square(made[1] - self.prefix, height, width)
        (tall, wide), (top, left) = self.stem.kernel_size, got[2:]
        if 0 <= top - height < tall and 0 <= left - width < wide:  # at most padded
            top, left = height, width
        return Grid(made[2], made[3], (tall, wide), (top, left))

    @contextlib.contextmanager
    def cutting(self, images: int, inputs: Tensor, kept: Tensor, patches: int) -> Iterator[None]:
        """Inside, a forward pass of b images goes on, behind the embedding, with n rows.

        Only the forward passes of this thread are changed.

        Args:
            images: b.
            inputs: [n] int64, the image of each row, a number below b.
            kept: [n,k] int64, the patches that each row keeps.
            patches: P.

        Raises:
            ValueError: the embedding did not run exactly once, or its tokens are of another shape.
        """
        length = self.prefix + patches
        before = torch.arange(self.prefix, device=kept.device).expand(len(kept), -1)
        places = torch.cat([before, kept + self.prefix], dim=1) + inputs[:, None] * length
        fired = []

        def cut(tokens: Any) -> Tensor:
            fired.append(tokens)
            if not isinstance(tokens, Tensor) or tokens.shape[:-1] != (images, length):
                got = list(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
                raise ValueError(
                    f"the embedding must give {images} images of {self.prefix} tokens and "
                    f"{patches} patches, [{images},{length},D], got {got}; at= and prefix= name "
                    "another place"
                )
            return tokens.flatten(0, 1)[places]

        rotated = Rotated(kept)
        with hooked() as hooks:
            if self.before:
                hooks.before(self.tokens, lambda _, args, kwargs: _changed(args, kwargs, cut))
            else:
                hooks.after(self.tokens, lambda module, args, output: cut(output))
            if self.angles is not None:
                hooks.after(self.angles, lambda module, args, output: rotated.all(output))
            for block in self.blocks:
                hooks.before(block, rotated.block)
            yield
        if len(fired) != 1:
            raise ValueError(f"{_OFTEN} {len(fired)} times" if fired else _NEVER)


_NEVER = (
    "the vision transformer found in the model did not run in a forward pass, so that no patch "
    "was left out; pass the network that runs, before torch.compile or any export"
)
_OFTEN = (
    "the model must run its vision transformer once in a forward pass, so that it is clear which "
    "patches are left out; it ran"
)


class _Seen(BaseException):
    """The embedding ran, and the rest of the pass is not needed; args: shapes it got and made."""


def _stop_at_patches(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    raise _Seen(inputs[0].shape, output.shape)


def _stop_at_tokens(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    raise _Seen(None, _of_call(args, kwargs).shape)


def _of_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The tokens among the arguments of a block: the first tensor [n,L,D]."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.dim() == 3:
            return value
    raise ValueError("at= must name a module that is given tokens [n,L,D], such as the first block")


def _changed(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Tensor], Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    tokens = _of_call(args, kwargs)
    new = change(tokens)
    return (
        tuple(new if value is tokens else value for value in args),
        {name: new if value is tokens else value for name, value in kwargs.items()},
    )


def _square(count: int, height: int, width: int) -> Grid:
    """The grid of ``count`` square patches on an image."""
    rows = round((count * height / width) ** 0.5) if count > 0 else 0
    if not rows or rows * (columns := count // rows) != count:
        raise ValueError(
            f"{count} patches are no grid of squares on an image of {height}×{width} pixels; is "
            "prefix=, the number of tokens before the patches, right?"
        )
    return Grid(rows, columns, (height // rows, width // columns), (height, width))
