"""Checkpoints: reads a state dict from a file, and loads a state dict into a network."""

import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from torchlime._errors import first_line
from torchlime._extras import imported
from torchlime._files import check_file

# Old DenseNet files spell "norm.1" where the network now says "norm1".
OLD_DENSENET = r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"


def read_checkpoint(path: str | os.PathLike[str]) -> Mapping[str, Tensor]:
    """The state dict in a file of torch.save or of safetensors; no code in it is run.

    A wrapping {"state_dict": …} or {"model": …} is opened, and the prefixes "module." of
    DataParallel and "_orig_mod." of torch.compile are dropped.

    Raises:
        FileNotFoundError, IsADirectoryError: there is no such file.
        ValueError: it is not a regular file, is damaged, or holds other things than tensors.
        ImportError: a .safetensors file, without the package that reads it.
    """
    path = Path(path)
    check_file(path, "checkpoint")
    try:
        if path.suffix == ".safetensors":
            safetensors = imported("safetensors.torch", f"the checkpoint {path}", "models")
            state = safetensors.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors, which is not loaded because it "
            "could run code; save it as torch.save(network.state_dict(), PATH)"
        ) from error
    except Exception as error:  # zip, pickle and safetensors readers raise many kinds
        raise ValueError(f"{path} is not a checkpoint: {first_line(error)}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise ValueError(f"{path} holds no state dict (a mapping of names to tensors)")
    for prefix in ("module.", "_orig_mod."):
        if all(key.startswith(prefix) for key in state):
            state = renamed(state, "^" + re.escape(prefix), "")
    return state


def renamed(state: Mapping[str, Tensor], old: str, new: str) -> Mapping[str, Tensor]:
    """``state`` with regular expression ``old`` replaced in its names, and in the names of its
    module versions (``_metadata``)."""
    renamed = OrderedDict((re.sub(old, new, key), value) for key, value in state.items())
    versions = getattr(state, "_metadata", {})
    vars(renamed)["_metadata"] = {re.sub(old, new, f"{k}.")[:-1]: v for k, v in versions.items()}
    return renamed


def state_in(weights: str | os.PathLike[str] | None) -> Mapping[str, Tensor] | None:
    """The state dict in ``weights``, if that is a file."""
    return None if weights is None or weights == "DEFAULT" else read_checkpoint(weights)


def other_classes(network: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """The number of classes of ``state``, if only that sets it apart from ``network``."""
    own = network.state_dict()
    pairs = [(own[k].shape, state[k].shape) for k in state if k in own]
    pairs = [(a, b) for a, b in pairs if a != b and a[1:] == b[1:] and len(b) > 0]
    counts = {b[0] for _, b in pairs}
    return counts.pop() if len(counts) == 1 else None


def fill(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load ``state``; raise one sentence if it does not fit."""
    own = network.state_dict()
    problems = [
        f"{k} is {list(v.shape)}, not {list(own[k].shape)}"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    if not problems:
        versioned = OrderedDict(state)
        versions = getattr(state, "_metadata", None) or getattr(own, "_metadata", None)
        vars(versioned)["_metadata"] = versions  # without them, old layouts would be assumed
        result = network.load_state_dict(versioned, strict=False)
        missing = [k for k in result.missing_keys if not k.endswith("num_batches_tracked")]
        problems = [f"missing {k}" for k in missing]
        problems += [f"unexpected {k}" for k in result.unexpected_keys]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ValueError(
            f"the checkpoint does not fit {type(network).__name__}: {', '.join(problems[:4])}{more}"
        )
