"""Rows: an explained photo, or row of a table, as a line of a dataset, and back."""

import io
import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

import torchlime
from torchlime._errors import printable as printable
from torchlime._errors import sentence_of
from torchlime._extras import imported
from torchlime._names import GivenNames
from torchlime.explanation import Explanation, Problem, label_map_of
from torchlime.features.tables import BINNED, PLAIN
from torchlime.folders import PhotoFile

Row = dict[str, Any]
FORMAT = 1  # the version of the rows


def schema() -> Any:
    """The columns, a ``pyarrow.Schema``.

    Convention:
        T is the number of targets, S the photo's own number of segments. The columns of an
        explanation are null where ``status`` is "error". ``predicted`` and ``probability`` are
        those of the best of all classes on the whole photo, whatever was explained. They are null
        where a region or a box was explained, since such networks give no class scores.
        ``target_region`` is the file of the region, and ``target_box`` the box x0, y0, x1, y1 in
        pixels of the upright photo; null where there is none. ``segments`` is the label map [H,W]
        as a PNG of 8 or 16 bits. ``width`` and ``height`` are those of the upright photo, null
        where it cannot be read. ``box`` says where the explained pixels lie in it
        (:meth:`torchlime.models.Geometry.crop_box`).

        For a row of a table, ``id`` is its number, ``features`` [S] are its bins, such as
        "2.00 < age <= 3.00", and ``columns`` [S] are the columns of these bins. ``unit`` is that of
        the scores. ``vectors`` and ``scale`` [S] are null except for tables without bins. The
        columns that only photos have are null.

        ``samples_used`` is how many rows of the design were fitted. ``sure`` says whether the
        coefficients are as sure as was asked; True where nobody asked. Older rows have neither.

    Raises:
        ImportError: pyarrow is not installed.
    """
    pa = imported("pyarrow", "a job", "jobs")
    integer, number, text = pa.int64(), pa.float64(), pa.string()
    columns = {
        "id": text,
        "class": text,
        "status": text,  # "ok" or "error"
        "error": text,
        "predicted": integer,
        "predicted_name": text,
        "probability": number,
        "target_region": text,
        "target_box": pa.list_(number),
        "targets": pa.list_(integer),  # [T]; the next six are [T] too, or [T,S]
        "target_names": pa.list_(text),
        "scores": pa.list_(number),
        "coefficients": pa.list_(pa.list_(number)),  # [T,S]
        "standard_errors": pa.list_(pa.list_(number)),  # [T,S], NaN where undefined
        "intercepts": pa.list_(number),
        "fidelity": pa.list_(number),  # NaN where no line predicts the scores
        "effective_samples": number,
        "segments": pa.binary(),
        "width": integer,
        "height": integer,
        "box": pa.list_(integer),
        "seed": integer,
        "settings": text,  # JSON
        "model": text,
        "weights": text,
        "torchlime": text,
        "torch": text,
        "features": pa.list_(text),  # from here on for rows of tables
        "columns": pa.list_(text),
        "unit": text,
        "vectors": pa.list_(number),
        "scale": pa.list_(number),
        "samples_used": integer,
        "sure": pa.bool_(),
    }
    return pa.schema(list(columns.items()), metadata={"torchlime.jobs": str(FORMAT)})


class Item(Protocol):
    """A photo, or a row of a table."""

    @property
    def id(self) -> str:
        """What it is found by."""
        ...

    @property
    def class_name(self) -> str | None:
        """Its class, if it has one."""
        ...


def failed(item: Item, reason: str, size: tuple[int, int] | None = None) -> Row:
    """The row of an item without an explanation; ``size`` is None if it could not be read."""
    row = _of(item) | {"status": "error", "error": reason}
    return row if size is None else row | {"width": size[0], "height": size[1]}


def explained(item: Item, explanation: Explanation, **known: Any) -> Row:
    """The row of an item's explanation, on the CPU; ``known`` holds the other columns."""
    count = int(explanation.segment_count[0])
    listed = ("targets", "scores", "intercepts", "fidelity")
    return (
        _of(item)
        | {"status": "ok", "effective_samples": explanation.effective_samples.item()}
        | _samples_of(explanation)
        | {name: getattr(explanation, name)[0].tolist() for name in listed}
        | {
            name: getattr(explanation, name)[0, :, :count].tolist()
            for name in ("coefficients", "standard_errors")
        }
        | (_of_photo(explanation) if explanation.named is None else _of_table(explanation))
        | known
    )


def _samples_of(explanation: Explanation) -> Row:
    used = explanation.samples_used
    return {"samples_used": None if used is None else int(used), "sure": bool(explanation.sure)}


def _of_photo(explanation: Explanation) -> Row:
    return {"segments": png_of(label_map_of(explanation)[0])}


def _of_table(explanation: Explanation) -> Row:
    numbers = {
        name: None if values is None else values[0].tolist()
        for name, values in (("vectors", explanation.vectors), ("scale", explanation.scale))
    }
    names = [in_utf8(name) for name in (explanation.names() or [[]])[0]]
    return {"features": names, "unit": explanation.unit} | numbers


def _of(item: Item) -> Row:
    name = item.class_name
    versions = {"torchlime": torchlime.__version__, "torch": str(torch.__version__)}
    return {"id": item.id, "class": None if name is None else printable(name)} | versions


def explanation_of(row: Mapping[str, Any]) -> Explanation:
    """The explanation in a row, on the CPU.

    Raises:
        ValueError: the row has none.
    """
    if row["status"] != "ok":
        raise ValueError(f"{row['id']} was not explained: {row['error']}")
    coefficients = torch.tensor([row["coefficients"]], dtype=torch.float64)
    intercepts = torch.tensor([row["intercepts"]], dtype=torch.float64)
    versions = {name: row[name] for name in ("seed", "torchlime", "torch")}
    used = row.get("samples_used")
    return Explanation(
        coefficients=coefficients,
        standard_errors=torch.tensor([row["standard_errors"]], dtype=torch.float64),
        intercepts=intercepts,
        fidelity=torch.tensor([row["fidelity"]], dtype=torch.float64),
        targets=torch.tensor([row["targets"]]),
        scores=torch.tensor([row["scores"]], dtype=torch.float64),
        segment_count=torch.tensor([coefficients.shape[2]]),
        effective_samples=torch.tensor([row["effective_samples"]], dtype=torch.float64),
        problems=torch.tensor([0 if row.get("sure", True) else int(Problem.NOT_SURE)]),
        samples_used=None if used is None else torch.tensor([used]),
        settings=json.loads(row["settings"]) | versions,
        **_fields_of(row, coefficients, intercepts),
    )


def _fields_of(row: Mapping[str, Any], coefficients: Tensor, intercepts: Tensor) -> dict[str, Any]:
    """The fields of an explanation by which photos and rows of tables differ."""
    if row.get("features") is None:  # older rows have no such column
        local = intercepts + coefficients.sum(dim=2)
        return {"segments": labels_of(row["segments"])[None], "local_predictions": local}
    named = dict(zip(row["targets"], row["target_names"], strict=True))
    fields = {"named": GivenNames((tuple(row["features"]),)), "unit": row["unit"]}
    fields |= {"categories": named}
    if row["vectors"] is None:
        local = intercepts + coefficients.sum(dim=2)
        return fields | {"kind": BINNED, "local_predictions": local}
    vectors, scale = (
        torch.tensor([row[name]], dtype=torch.float64) for name in ("vectors", "scale")
    )
    local = intercepts + (coefficients * vectors[:, None]).sum(dim=2)
    return fields | {
        "kind": PLAIN, "local_predictions": local, "vectors": vectors, "scale": scale,
    }  # fmt: skip


def png_of(labels: Tensor) -> bytes:
    """A label map [H,W] of ids below 2¹⁶ as a PNG: one byte a pixel where that is enough."""
    from PIL import Image

    small = int(labels.max()) < 2**8
    buffer = io.BytesIO()
    Image.fromarray(labels.numpy().astype(np.uint8 if small else np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def labels_of(png: bytes) -> Tensor:
    """The label map [H,W] int64 in a PNG.

    >>> labels_of(png_of(torch.tensor([[0, 255], [256, 65535]]))).tolist()
    [[0, 255], [256, 65535]]
    """
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return torch.from_numpy(np.asarray(image).astype(np.int64))


def reason_of(error: BaseException, photo: PhotoFile) -> str:
    """What an error says about a photo, with its id in place of its path, fit for UTF-8."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    path = " ".join(str(photo.path).split())
    return in_utf8(sentence_of(error).replace(path, photo.id))


def in_utf8(text: str) -> str:
    """A text with what UTF-8 does not know, lone surrogates, escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
