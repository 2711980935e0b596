"""Identity: what has to agree so that two runs give the same rows."""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from torchlime._provenance import most_samples, named
from torchlime.lime import Lime
from torchlime.models import Classifier, Marks
from torchlime.rise import Rise
from torchlime.rounds import Once

# What it means that a setting is not recorded.
_LEFT_OUT = {"rounds": "a fixed number of samples", "num_samples": "as many as are needed"}


def seed_of(seed: int, photo_id: str) -> int:
    """The seed of a photo, 64 bits; it does not depend on the machine or on the other photos.

    >>> seed_of(0, "cats/1.jpg") == seed_of(0, "cats/1.jpg") != seed_of(0, "cats/2.jpg")
    True
    """
    digest = hashlib.blake2b(f"{seed} {photo_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def weights_hash(network: nn.Module) -> str:
    """A hash of a network's parameters and buffers with their names: 16 hexadecimal digits."""
    total = hashlib.blake2b(digest_size=8)
    for name, value in sorted(network.state_dict().items()):
        if isinstance(value, Tensor):
            total.update(f"{name} {value.dtype} {list(value.shape)}".encode())
            total.update(_bytes(value))
    return total.hexdigest()


def identity(
    classifier: Classifier,
    name: str,
    targets: Sequence[int],
    top: int,
    explainer: Lime | Rise,
    marks: Marks | None = None,
) -> dict[str, str]:
    """The settings that the rows depend on, in words.

    The device and the size of a forward pass are not among them, though they change a
    coefficient's last digits. The photos that were asked for are not among them either.
    """
    settings = settings_of(explainer, leave_out=("chunk_size", "exact_chunks"))
    if getattr(explainer, "rounds", None) == Once():
        del settings["rounds"]  # as before there were any
    return {
        "model": name,
        "weights": weights_hash(classifier.network),
        "output": classifier.output,
        "geometry": repr(classifier.geometry),
        "targets": ", ".join(map(str, targets)) or ("the best" if top == 1 else f"the {top} best"),
        **({} if marks is None else {"part": str(marks)}),
        **counted(settings),
    }


def settings_of(explainer: Any, leave_out: Collection[str] = ()) -> dict[str, str]:
    """The settings of an explainer in words; a rule's most samples are its number of samples."""
    used = {field.name: getattr(explainer, field.name) for field in fields(explainer)}
    if "rounds" in used:
        used["num_samples"] = most_samples(used["num_samples"], used["rounds"])
    return {name: described(value) for name, value in used.items() if name not in leave_out}


def counted(settings: Mapping[str, str]) -> dict[str, str]:
    """Settings without the number of samples beside a rule that has its own; older records have it.

    >>> counted({"num_samples": "512", "rounds": "Until(error=0.25)"})
    {'rounds': 'Until(error=0.25)'}
    """
    by_need = re.match(r"Until(First)?\(", settings.get("rounds", ""))
    unused = {"num_samples"} if by_need else set()
    return {name: value for name, value in settings.items() if name not in unused}


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """A phrase for each setting that has changed.

    >>> differences({"seed": "0", "model": "a"}, {"seed": "1", "model": "a"})
    ['seed: 0, not 1']
    """
    names = dict.fromkeys([*before, *now])
    return [
        f"{name}: {_word(before, name, 'unknown')}, not {_word(now, name, 'given')}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _word(settings: Mapping[str, str], name: str, without: str) -> str:
    return settings.get(name, _LEFT_OUT.get(name, without))


def described(value: Any) -> str:
    """A setting in words that are the same in every process."""
    if isinstance(value, Tensor):
        digest = hashlib.blake2b(_bytes(value), digest_size=8).hexdigest()
        return f"a tensor {list(value.shape)} {value.dtype} {digest}"
    return named(value, described)


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
