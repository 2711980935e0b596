"""Estimators: turns a name into a model of tables or of texts. No file runs code without trust."""

import inspect
import io
import os
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from torchlime._errors import first_line
from torchlime._extras import imported
from torchlime._files import bytes_of, check_file
from torchlime.models.building import download
from torchlime.models.sources import named_function, returned_by

PICKLES = (".joblib", ".pkl", ".pickle")
_TOKENIZERS = ("tokenizer*", "vocab*", "*vocab.*", "*.model", "*.tiktoken")  # names of its files
_LARGEST = 2**32  # bytes of a skops file, and of what is packed in it


def load_estimator(
    model: str, *, trust: bool = False, trusted: Sequence[str] = (), device: str = "cpu"
) -> Any:
    """A model of tables or of texts by its name.

    Args:
        model: a file of ``skops.io.dump``, whose types are checked before it is loaded; a file of
            ``joblib.dump`` or ``pickle.dump`` (.joblib, .pkl, .pickle); "hf:FOLDER" of a text
            classifier; or "module:function" of your own. The function is called without arguments
            and returns the model; one that takes arguments, and an estimator, is the model itself.
        trust: run whatever code a pickle holds, and load all types of a skops file.
        trusted: names of types of a skops file that may be loaded, beside those that skops knows.
        device: where a network goes.

    Raises:
        ValueError: no such model, a damaged file, or one that is not trusted.
        ImportError: a package that the file or the function needs is missing.
        OSError: there is no such file.

    Example:
        >>> load_estimator("statistics:fmean") is __import__("statistics").fmean
        True
    """
    if model.startswith("hf:"):
        return _text_classifier(model.removeprefix("hf:"), device)
    suffix = Path(model).suffix.lower()
    if suffix == ".skops":
        return _moved(_of_skops(model, trust, trusted), device)
    if suffix in PICKLES:
        return _moved(_of_pickle(model, trust), device)
    if ":" in model:
        return _moved(_own(model), device)
    raise ValueError(
        f"the model of a table or of texts must be a .skops, {', '.join(PICKLES[:-1])} or "
        f"{PICKLES[-1]} file, module:function, or hf:FOLDER for texts, got {model!r}"
    )


def _of_pickle(path: str, trust: bool) -> Any:
    check_file(path, "model")
    if not trust:
        raise ValueError(
            f"{path} is a pickle, and was not loaded: loading a pickle can run any code of whoever "
            "wrote the file. If you trust them, say so with trust=True (--trust); or save the "
            "model with skops.io.dump, since the types in such a file are checked before it is "
            "loaded"
        )
    joblib = imported("joblib", f"the model {path}", "tables")
    try:
        return joblib.load(path)
    except ModuleNotFoundError as error:
        raise ImportError(f"{path} needs the package {error.name}, which is missing") from error
    except (Exception, SystemExit) as error:  # the bytes may be anything, and so may their code
        raise ValueError(f"{path} could not be loaded as a pickle: {first_line(error)}") from error


def _of_skops(path: str, trust: bool, trusted: Sequence[str]) -> Any:
    content = bytes_of(path, "model", _LARGEST)  # once, so that what is checked is what is loaded
    skops = imported("skops.io", f"the model {path}", "tables")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inflated = sum(member.file_size for member in archive.infolist())
        if inflated > _LARGEST:
            raise ValueError(f"it would take {inflated} bytes of memory, more than {_LARGEST}")
        doubtful = skops.get_untrusted_types(data=content)
    except (Exception, SystemExit) as error:  # the bytes may be anything
        raise ValueError(f"{path} is no skops file, or is damaged: {first_line(error)}") from error
    refused = [] if trust else [name for name in doubtful if name not in trusted]
    if refused:
        raise ValueError(
            f"{path} was not loaded: it holds types that skops does not take for safe "
            f"({', '.join(refused)}). Such a type can crash the program or run code. If you trust "
            "whoever wrote the file, name the types in trusted (--trust-type), or trust the whole "
            "file with trust=True (--trust)"
        )
    try:
        return skops.loads(content, trusted=doubtful)
    except (Exception, SystemExit) as error:  # the bytes may be anything
        raise ValueError(f"{path} could not be loaded by skops: {first_line(error)}") from error


def _own(name: str) -> Any:
    function = named_function(name, _is_model)
    if isinstance(function, nn.Module) or not callable(function) or _takes_arguments(function):
        return function
    found = returned_by(function, name)
    if not _is_model(found):
        raise ValueError(
            f"{name} returned a {type(found).__name__}, which is no model: neither a function nor "
            "an object with predict"
        )
    return found


def _is_model(found: Any) -> bool:
    return callable(found) or hasattr(found, "predict")


def _takes_arguments(function: Any) -> bool:
    """Whether a function cannot be called without arguments."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # one of C that does not tell
        return False
    return False


def _moved(model: Any, device: str) -> Any:
    return model.to(device).eval() if isinstance(model, nn.Module) else model


def _text_classifier(name: str, device: str) -> Any:
    """A text-classification pipeline of Hugging Face; it runs no code of the folder's."""
    transformers = imported("transformers", "hf:FOLDER", "models")
    if os.path.isdir(name):
        _check_folder(name)
    with download(f"hf:{name}", "pass a folder that save_pretrained wrote as hf:FOLDER"):
        try:
            return transformers.pipeline(
                "text-classification", model=name, device=device, trust_remote_code=False
            )
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"hf:{name}: its weights were not loaded, since they hold more than tensors, which "
                "can run any code of whoever wrote them; ask for model.safetensors"
            ) from error


def _check_folder(name: str) -> None:
    """Raise where a folder lacks a part. Without a tokenizer, every word would be an unknown one.

    Raises:
        ValueError: it names the part.
    """
    if not os.path.isfile(os.path.join(name, "config.json")):
        raise ValueError(f"hf:{name}: the folder has no config.json, as save_pretrained writes it")
    if not any(found for kind in _TOKENIZERS for found in Path(name).glob(kind)):
        raise ValueError(
            f"hf:{name}: the folder has no tokenizer: save it there too, with its save_pretrained"
        )
