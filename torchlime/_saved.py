"""Explanations in files: arrays and a JSON record in a compressed .npz, without pickle."""

import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from torchlime._archives import check_archive
from torchlime._atomic import whole_file
from torchlime._files import check_file
from torchlime._kinds import IMAGES, Kind, Masks, Noise
from torchlime._names import of_record
from torchlime._problems import Problem
from torchlime._provenance import Words
from torchlime._several import is_several, leaves_of

# 3 had the input in every design of masks, and no samples_used; 2 had one input; 1 had no kind, and
# "segments" [B,0,0] for vectors.
FORMAT = 4
_KINDS: dict[str, type[Kind]] = {"masks": Masks, "noise": Noise}
_WORDS_OF_KIND = {"design", "part", "input", "beside"}


def save(
    tensors: Mapping[str, Any],
    kind: Kind,
    settings: Words,
    path: str | os.PathLike[str],
    categories: Mapping[int, str],
    told: Mapping[str, Any],
) -> None:
    """Write an explanation's fields, wholly or not at all; ``categories`` are of its targets.

    ``told`` are the fields that are no tensors: a unit, a factor and names.

    Raises:
        OSError: the file cannot be written.
    """
    import numpy as np

    tensors, maps = dict(tensors), tensors.get("segments")
    several: dict[str, Any] = {}
    if is_several(maps):
        tensors.pop("segments")
        tensors |= {f"segments.{n}": m for n, m in enumerate(leaves_of(maps)) if m is not None}
        several = {"inputs": list(maps) if isinstance(maps, Mapping) else len(leaves_of(maps))}
    arrays: dict[str, Any] = {
        name: t.detach().cpu().numpy()  # read back: to a file
        for name, t in tensors.items()
    }
    design = next(name for name, known in _KINDS.items() if isinstance(kind, known))
    kind_words: dict[str, Any] = {"design": design, "part": kind.part, "input": kind.input}
    kind_words["beside"] = kind.beside
    words = {"settings": dict(settings), "categories": dict(categories), **several, **told}
    record = json.dumps({"format": FORMAT, "kind": kind_words, **words})
    if arrays.get("segments", np.empty(0)).dtype.kind in "iu":
        arrays["segments"] = _narrow(arrays["segments"])
    arrays["record"] = np.array(record)
    # numpy before 2.2 would save allow_pickle=False as an array. No tensor holds objects.
    with whole_file(path) as file:
        np.savez_compressed(file, **arrays)


def _narrow(labels: Any) -> Any:
    """Labels in the fewest bytes that hold them: 8 each in torch, mostly one here."""
    import numpy as np

    lowest, highest = int(labels.min()), int(labels.max())
    return labels.astype(np.min_scalar_type(min(lowest, -highest - 1) if lowest < 0 else highest))


def load(path: str | os.PathLike[str], max_bytes: int) -> dict[str, Any]:
    """The fields of a saved explanation, checked; tensors are on the CPU.

    ``max_bytes`` is how much memory the arrays of the file may take.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not an explanation, its format is newer, or a field is wrong.
    """
    import numpy as np

    check_file(path, "explanation")
    with open(path, "rb") as file:
        try:
            check_archive(file, "explanation", max_bytes)
            with np.load(file, allow_pickle=False) as archive:
                # numpy before 2.2 took the keyword allow_pickle for an array.
                names = [name for name in archive.files if name != "allow_pickle"]
                arrays = {name: archive[name] for name in names}
            record = json.loads(str(arrays.pop("record")))
            if record["format"] not in range(1, FORMAT + 1):
                known = f"1 to {FORMAT}"
                raise ValueError(f"its format is {record['format']}, known ones are {known}")
            for name in arrays:
                if name.startswith("segments") and arrays[name].dtype.kind in "iu":
                    arrays[name] = arrays[name].astype(np.int64)
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            kind = _kind_of(record, tensors)
            check_fields(tensors, kind)
            return {
                **_told(record),
                **_with_inputs(tensors, record.get("inputs")),
                "kind": kind,
                "settings": _checked_settings(record["settings"]),
                "named": of_record(record.get("named"), tensors["segment_count"]),
            }
        except Exception as error:  # damaged bytes surface as errors of many kinds
            reason = f"{os.fspath(path)} is not a saved explanation: {error}"
            raise ValueError(reason) from error


def _with_inputs(tensors: dict[str, Tensor], inputs: Any) -> dict[str, Any]:
    """The tensors, their label maps in the structure of several inputs: names, or how many."""
    maps = [name for name in tensors if name.startswith("segments.")]
    named = isinstance(inputs, list) and all(isinstance(name, str) for name in inputs)
    if inputs is None and not maps:
        return dict(tensors)
    if not (named or (isinstance(inputs, int) and 0 < inputs <= 1000)):
        raise ValueError("inputs must be their names, or how many there are")
    known = [f"segments.{n}" for n in range(len(inputs) if named else inputs)]
    if not maps or not set(maps) <= set(known) or "segments" in tensors:
        raise ValueError(f"segments must be of the {len(known)} inputs")
    rest = {name: tensor for name, tensor in tensors.items() if name not in known}
    found = [tensors.get(name) for name in known]
    segments = dict(zip(inputs, found, strict=True)) if named else tuple(found)
    return rest | {"segments": segments}


def _kind_of(record: Mapping[str, Any], tensors: dict[str, Tensor]) -> Kind:
    if record["format"] == 1:
        if "vectors" not in tensors:
            return Masks()
        tensors.pop("segments", None)
        return Noise()
    named = record["kind"]
    words_of_kind = _WORDS_OF_KIND - ({"beside"} if record["format"] < 4 else set())
    if not isinstance(named, dict) or named.keys() != words_of_kind:
        raise ValueError('kind must name "design", "part", "input" and "beside"')
    words = [named["part"], named["input"]]
    if not all(isinstance(word, str) and word.isprintable() and len(word) <= 60 for word in words):
        raise ValueError("the words of kind must be short texts")
    if named["design"] not in _KINDS:
        raise ValueError(f"the design of kind must be one of {sorted(_KINDS)}")
    noise = named["design"] == "noise"
    beside = named.get("beside", noise)
    if not isinstance(beside, bool):
        raise ValueError("beside of kind must be true or false")
    if noise and not beside:
        raise ValueError("noise has the input beside it")
    part, of = words
    return Noise(part, of) if noise else Masks(part, of, beside)


def _checked_settings(settings: Any) -> dict[str, Any]:
    if not isinstance(settings, dict) or not all(
        isinstance(value, str | int | float | None) for value in settings.values()
    ):
        raise ValueError("settings must map names to texts and numbers")
    return settings


def _told(record: Mapping[str, Any]) -> dict[str, Any]:
    """The unit of the scores, the names of the targets, a factor; older files have none."""
    factor = record.get("variance_factor", 1.0)
    if not isinstance(factor, float) or not 0 <= factor < math.inf:
        raise ValueError("variance_factor must be a finite number of at least 0")
    unit, names = record.get("unit", "score"), record.get("categories", {})
    if not isinstance(names, dict) or not all(
        isinstance(text, str) for text in (unit, *names.values())
    ):
        raise ValueError("unit must be a text, and categories must map classes to texts")
    categories = {int(i): name for i, name in names.items()} or None
    return {"unit": unit, "variance_factor": factor, "categories": categories}


def check_fields(tensors: Mapping[str, Tensor], kind: Kind) -> None:
    """Raise unless the tensors of an explanation agree in type, shape and range.

    Raises:
        ValueError: a field is missing, unknown or wrong; the message names it.
    """
    coefficients = tensors.get("coefficients")
    if coefficients is None or coefficients.dim() != 3 or 0 in coefficients.shape:
        raise ValueError("coefficients must be of shape [B,T,S], with at least one of each")
    expected = _expected(coefficients.shape, kind, tensors)
    of_images = (kind.part, kind.input) == (IMAGES.part, IMAGES.input)
    optional = _OPTIONAL if of_images else {*_OPTIONAL, "segments"}
    for name in expected.keys() - optional - tensors.keys():
        raise ValueError(f"{name} is missing")
    for name, tensor in tensors.items():
        if name not in expected:
            raise ValueError(f"{name} is no field of an explanation")
        shape, (type_name, is_type) = expected[name]
        if not is_type(tensor):
            raise ValueError(f"{name} must be {type_name}, got {tensor.dtype}")
        if len(shape) != tensor.dim() or any(
            size not in (-1, own) for size, own in zip(shape, tensor.shape, strict=True)
        ):
            raise ValueError(f"{name} must be of shape {list(shape)}, got {list(tensor.shape)}")
    _check_ranges(tensors, coefficients.shape[2])


_Type = tuple[str, Callable[[Tensor], bool]]
_REAL: _Type = (
    "of float32 or float64",
    lambda tensor: tensor.dtype in (torch.float32, torch.float64),
)
_WHOLE: _Type = ("int64", lambda tensor: tensor.dtype == torch.int64)
_BOOL: _Type = ("bool", lambda tensor: tensor.dtype == torch.bool)
_OPTIONAL = {
    "ids",
    "masks",
    "sample_scores",
    "weights",
    "energy",
    "bins",
    "samples_used",
    "variance_factor",
}


def _expected(
    shape: torch.Size, kind: Kind, tensors: Mapping[str, Tensor]
) -> dict[str, tuple[tuple[int, ...], _Type]]:
    """Shape and type of every field; -1 is any size."""
    batch, targets, width = shape
    sampled = [tensors[name] for name in ("masks", "sample_scores", "weights") if name in tensors]
    samples = sampled[0].shape[1] if sampled and sampled[0].dim() > 1 else -1
    per_target: dict[str, tuple[tuple[int, ...], _Type]] = dict.fromkeys(
        ("intercepts", "fidelity", "scores", "local_predictions"), ((batch, targets), _REAL)
    )
    own: dict[str, tuple[tuple[int, ...], _Type]] = (
        dict.fromkeys(("vectors", "scale"), ((batch, width), _REAL))
        if isinstance(kind, Noise)
        else {"segments": ((batch, -1, -1), _WHOLE), "ids": ((batch, width), _WHOLE)}
        | {
            name: _map_shape(tensor, batch, width)
            for name, tensor in tensors.items()
            if name.startswith("segments") and tensor.dim() > 1
        }
    )
    return (
        per_target
        | own
        | {
            "coefficients": ((batch, targets, width), _REAL),
            "standard_errors": ((batch, targets, width), _REAL),
            "targets": ((batch, targets), _WHOLE),
            "segment_count": ((batch,), _WHOLE),
            "effective_samples": ((batch,), _REAL),
            "problems": ((batch,), _WHOLE),
            "masks": ((batch, samples, width), _REAL if isinstance(kind, Noise) else _BOOL),
            "sample_scores": ((batch, samples, targets), _REAL),
            "weights": ((batch, samples), _REAL),
            "energy": ((batch, width), _REAL),
            "bins": ((batch, width), _WHOLE),
            "samples_used": ((batch,), _WHOLE),
            "variance_factor": ((batch,), _REAL),
        }
    )


def _map_shape(tensor: Tensor, batch: int, width: int) -> tuple[tuple[int, ...], _Type]:
    """Of a label map of any rank, or of the shares of soft segments."""
    if tensor.is_floating_point():
        return (batch, width, *[-1] * max(tensor.dim() - 2, 1)), _REAL
    return (batch, *[-1] * (tensor.dim() - 1)), _WHOLE


def _check_rows(tensors: Mapping[str, Tensor]) -> None:
    used, factor, masks = (
        tensors.get(name) for name in ("samples_used", "variance_factor", "masks")
    )
    if factor is not None and not bool(factor.isfinite().all()):
        raise ValueError("variance_factor must be finite")
    if used is not None and bool((used < 1).any()):
        raise ValueError("samples_used must be at least 1")
    if used is not None and masks is not None and bool((used > masks.shape[1]).any()):
        raise ValueError(f"samples_used must be at most the {masks.shape[1]} rows of masks")


def _check_ranges(tensors: Mapping[str, Tensor], bound: int) -> None:
    count, problems = tensors["segment_count"], tensors["problems"]
    if not bool(((count >= 1) & (count <= bound)).all()):  # of a file, on the host
        raise ValueError(f"segment_count must lie in 1…{bound}, the number of coefficients")
    known = sum(Problem)
    if not bool(((problems >= 0) & (problems <= known)).all()):
        raise ValueError(f"problems must lie in 0…{known}")
    out_of_range = (problems & Problem.TARGET_OUT_OF_RANGE)[:, None] != 0
    if not bool(((tensors["targets"] >= 0) | out_of_range).all()):
        raise ValueError("targets must be 0 or above where problems do not say otherwise")
    for name in (
        "standard_errors",
        "effective_samples",
        "weights",
        "energy",
        "variance_factor",
    ):
        if name in tensors and bool((tensors[name] < 0).any()):
            raise ValueError(f"{name} must not be negative")
    _check_rows(tensors)
    if bool((tensors["fidelity"] > 1 + 1e-9).any()):
        raise ValueError("fidelity must be at most 1")
    for name, segments in tensors.items():
        if not name.startswith("segments"):
            continue
        if not segments.numel():
            raise ValueError(f"{name} must hold pixels, got {list(segments.shape)}")
        if segments.is_floating_point():
            if not bool(((segments >= 0) & (segments <= 1)).all()):
                raise ValueError(f"{name} must hold shares in [0,1]")
            continue
        lowest, highest = segments.flatten(1).aminmax(dim=1)
        if bool((lowest < -1).any() | (highest >= count).any()):
            raise ValueError(f"{name} must hold ids 0…count−1, or −1 for the background")
