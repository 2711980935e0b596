"""Captum's perturbation methods on torchlime, in place of ``captum.attr``.

from captum.attr import Lime, LimeBase, KernelShap  →  from torchlime.compat.captum import Lime, LimeBase, KernelShap
from captum.attr import FeatureAblation, Occlusion, ShapleyValueSampling  →  from torchlime.compat.captum import …

The results are Captum's. With ``rng="captum"``, the random stream is Captum's too. All examples of
a batch share forward passes. Where Captum is installed, the classes are subclasses of Captum's.

What differs, because Captum is wrong or leaves it to chance:

- In Lime and KernelShap, a feature mask or baseline is an error if its first axis may be the batch
  or another axis. Captum cuts a mask [H,W] by rows where H is the number of examples.
- In FeatureAblation, a mask without the axis of examples is broadcast. With several outputs or
  perturbations, Captum fails, or adds up the losses of wrong features without an error.
- In ShapleyValueSampling, negative ids are an error. Captum never shows them. By default, every
  second order is the reverse of the one before it, which makes the error smaller.
- A single further argument needs no tuple. Captum would iterate over the rows of such a tensor.
- An array or list of scores holds one score for each row. Captum's Lime takes it for one score.
- A target in a tensor on a GPU is not read back; if it is out of range, the result is NaN.
- A hidden NaN or infinity does not reach the model. NaN weights or scores are an error on a CPU.
- The Lasso is solved to its optimum. scikit-learn stops before it where samples are few.
- KernelShap treats a single feature like any other number of features.
- A forward pass has at least ``perturbations_per_eval`` rows, and more where the function can take
  them. If it cannot (it fails, or a row's score depends on other rows), it is called as Captum
  calls it.

Captum's ``LLMAttribution`` takes FeatureAblation, ShapleyValueSampling, Lime and KernelShap.
``LLMGradientAttribution`` refuses them, as it refuses Captum's own.

No sample is read back from the device. A call reads the lowest and the highest id of a feature mask
(in FeatureAblation and ShapleyValueSampling, how many ids it has); one flag, for
``perturbations_per_eval=1`` (in Lime and KernelShap only for one example); and coefficients, where
the caller wants them on the CPU: ``return_input_shape=False``, or a model object of Captum.
"""  # noqa: E501

from torchlime.compat.captum.feature_ablation import FeatureAblation
from torchlime.compat.captum.feature_masks import construct_feature_mask
from torchlime.compat.captum.kernel_shap import KernelShap
from torchlime.compat.captum.lime import (
    Lime,
    default_from_interp_rep_transform,
    default_perturb_func,
)
from torchlime.compat.captum.lime_base import LimeBase
from torchlime.compat.captum.linear_models import (
    SkLearnLasso,
    SkLearnLinearModel,
    SkLearnLinearRegression,
    SkLearnRidge,
    SurrogateModel,
)
from torchlime.compat.captum.occlusion import Occlusion
from torchlime.compat.captum.shapley_value import ShapleyValueSampling
from torchlime.compat.captum.similarity import get_exp_kernel_similarity_function

__all__ = [
    "FeatureAblation",
    "KernelShap",
    "Lime",
    "LimeBase",
    "Occlusion",
    "ShapleyValueSampling",
    "SkLearnLasso",
    "SkLearnLinearModel",
    "SkLearnLinearRegression",
    "SkLearnRidge",
    "SurrogateModel",
    "construct_feature_mask",
    "default_from_interp_rep_transform",
    "default_perturb_func",
    "get_exp_kernel_similarity_function",
]
