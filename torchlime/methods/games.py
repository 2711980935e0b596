"""Methods that estimate values of the game whose players are the segments."""

from typing import Unpack

from torchlime.lime import Lime
from torchlime.masks import LeverageLaw, Orthogonal, Permutations, ShapleyLaw, SizeLaw
from torchlime.methods._registry import MethodSettings, recipe, with_lime
from torchlime.surrogates import ConstrainedLeastSquares, LeastSquares, MarginalContributions
from torchlime.weights import ImportanceWeights, Uniform


@recipe(
    "Lundberg & Lee 2017, A Unified Approach to Interpreting Model Predictions; pairs: Covert & "
    "Lee 2021, Improving KernelSHAP: Practical Shapley Value Estimation Using Linear Regression",
)
def kernel_shap(paired: bool = True, **settings: Unpack[MethodSettings]) -> Lime:
    """Shapley values by least squares on pairs of complements, drawn by the Shapley kernel.

    Their sum is the score of the input minus the score of the image with all segments hidden.
    """
    return with_lime(
        "kernel_shap", settings, sampler=SizeLaw(ShapleyLaw(), paired), kernel=Uniform(),
        surrogate=ConstrainedLeastSquares(),
    )  # fmt: skip


@recipe(
    "Musco & Witter 2025, Provably Accurate Shapley Value Estimation via Leverage Score Sampling",
    "masks are drawn with replacement.",
)
def leverage_shap(paired: bool = True, **settings: Unpack[MethodSettings]) -> Lime:
    """Shapley values by weighted least squares on pairs of complements, of all sizes alike.

    A mask is drawn with a probability by its leverage, and weighted by the ratio of the Shapley
    kernel to it.
    """
    return with_lime(
        "leverage_shap", settings, sampler=SizeLaw(LeverageLaw(), paired),
        kernel=ImportanceWeights(ShapleyLaw(), drawn=LeverageLaw()),
        surrogate=ConstrainedLeastSquares(),
    )  # fmt: skip


@recipe(
    "Castro, Gómez & Tejada 2009, Polynomial calculation of the Shapley value based on sampling; "
    "pairs: Mitchell, Cooper, Frank & Holmes 2022, Sampling Permutations for Shapley Value "
    "Estimation",
)
def permutation_shapley(paired: bool = True, **settings: Unpack[MethodSettings]) -> Lime:
    """Shapley values as the mean of what a segment adds when it joins others in random orders."""
    return with_lime(
        "permutation_shapley", settings, sampler=Permutations(paired), kernel=Uniform(),
        surrogate=MarginalContributions(),
    )  # fmt: skip


@recipe(
    "Hammer & Holzman 1992, Approximations of pseudo-Boolean functions; applications to game "
    "theory",
    "an orthogonal design of masks stands for all masks.",
)
def banzhaf(**settings: Unpack[MethodSettings]) -> Lime:
    """Banzhaf values: the least squares fit to all masks alike."""
    return with_lime(
        "banzhaf", settings, sampler=Orthogonal(), kernel=Uniform(), surrogate=LeastSquares()
    )
