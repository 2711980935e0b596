"""LIME and its relatives, each a recipe of a few lines over the same strategies.

A recipe is a function: settings → an object with ``explain(model, images, targets, …)``, in most
cases a :class:`torchlime.Lime`. The strategies that make the method are fixed. Segmenter, fill,
number of samples and seed are free. :func:`names` lists them, :func:`get` finds one by its name,
and :func:`describe` says what it does, which paper it is from, and how it differs from the paper.

    >>> import torch
    >>> from torchlime import methods
    >>> from torchlime.fills import Constant
    >>> from torchlime.segments import Grid
    >>> explainer = methods.kernel_shap(segmenter=Grid(2, 2), fill=Constant(0.0), num_samples=64)
    >>> image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> explainer.explain(lambda x: x.amax((2, 3)), image).coefficients.sum().round().item()
    4.0
"""

from torchlime.methods._registry import Method, describe, get, names
from torchlime.methods.games import banzhaf, kernel_shap, leverage_shap, permutation_shapley
from torchlime.methods.hierarchies import Hierarchy, dseg
from torchlime.methods.regressions import (
    bayeslime,
    baylime,
    belief,
    glime,
    glime_gauss,
    grid_lime,
    lime,
    slice_lime,
    slime,
)
from torchlime.methods.removals import leave_one_out, occlusion, rise

__all__ = [
    "Hierarchy",
    "Method",
    "banzhaf",
    "bayeslime",
    "baylime",
    "belief",
    "describe",
    "dseg",
    "get",
    "glime",
    "glime_gauss",
    "grid_lime",
    "kernel_shap",
    "leave_one_out",
    "leverage_shap",
    "lime",
    "names",
    "occlusion",
    "permutation_shapley",
    "rise",
    "slice_lime",
    "slime",
]
