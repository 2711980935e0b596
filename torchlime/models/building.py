"""Building: makes a network with a function, and fills it with the weights of a checkpoint."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from torchlime._errors import first_line
from torchlime.models.checkpoints import fill, other_classes

Weights = str | os.PathLike[str] | None


def filled(
    build: Callable[..., nn.Module], state: Mapping[str, Tensor] | None
) -> tuple[nn.Module, bool]:
    """A network with the weights in ``state``, if any, and whether it kept its number of classes.

    ``build`` takes ``num_classes``, which a checkpoint of a fine-tuned network may need.
    """
    network = build()
    if state is None:
        return network, True
    classes = other_classes(network, state)
    if classes is not None:
        network = build(num_classes=classes)
    fill(network, state)
    return network, classes is None


@contextmanager
def download(
    model: str,
    remedy: str = "pass a file with weights=PATH (--weights PATH on the command line, "
    "--model MODEL=PATH of torchlime app)",
) -> Iterator[None]:
    """Turn a failed download into one sentence that says what to do instead."""
    try:
        yield
    except OSError as error:  # URLError, HTTPError, LocalEntryNotFoundError are kinds of it
        raise OSError(
            f"could not get the weights of {model} ({first_line(error)}); {remedy}"
        ) from error
