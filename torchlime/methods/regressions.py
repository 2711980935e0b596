"""LIME and other methods that fit a regression."""

from typing import Any, Unpack

from torch import Tensor

from torchlime._size_laws import MaskDistance
from torchlime.fills import Blur
from torchlime.lime import Lime
from torchlime.masks import Bernoulli, GlimeLaw, SizeLaw
from torchlime.methods._registry import MethodSettings, check_free, recipe, with_lime
from torchlime.noise import Gaussian
from torchlime.rounds import MOST, Until
from torchlime.segments import Grid
from torchlime.surrogates import BayesianRidge, Ridge, SignEntropy
from torchlime.vectors import VectorLime
from torchlime.weights import Exponential, Uniform

WIDTHS: dict[str, float] = {"cosine": 0.25, "euclidean": 0.5**0.5}  # of glime()


@recipe(
    "Ribeiro, Singh & Guestrin 2016, “Why Should I Trust You?”: Explaining the Predictions of Any "
    "Classifier",
    "the superpixels are those of Slic, and no features are selected first.",
)
def lime(width: float = 0.25, **settings: Unpack[MethodSettings]) -> Lime:
    """Ridge regression on independent coin flips, weighted by the cosine distance of the mask.

    The strategies are those of lime's ``LimeImageExplainer``.
    """
    return with_lime(
        "lime", {"num_samples": 1000, **settings},
        sampler=Bernoulli(0.5), kernel=Exponential(width), surrogate=Ridge(1.0),
    )  # fmt: skip


@recipe(
    "Tan, Tian & Li 2023, GLIME: General, Stable and Local LIME Explanation",
    "the law follows lime's cosine distance, so that the limit is LIME's; the paper's binomial law "
    "of its σ is distance='euclidean' with width=σ/√2.",
)
def glime(
    width: float | None = None,
    distance: MaskDistance = "cosine",
    **settings: Unpack[MethodSettings],
) -> Lime:
    """Ridge regression on masks that are drawn by LIME's weights and are not weighted again.

    With ``distance="euclidean"`` it is GLIME-Binomial of the paper: the segments are kept
    independently with probability 1/(1 + exp(−1/σ²)), where the paper's σ is √2 · ``width``.

    A ``width`` of None is LIME's 0.25 for the cosine, and 1/√2 for the euclidean distance: the
    paper's σ is 1 then, and 73 % of the segments are kept. LIME's would keep 99.97 %, so that
    most masks would hide nothing.
    """
    if width is None:
        width = WIDTHS.get(distance, 0.25)
    return with_lime(
        "glime", {"num_samples": 1000, **settings},
        sampler=SizeLaw(GlimeLaw(width, distance), paired=False), kernel=Uniform(),
        surrogate=Ridge(1.0),
    )  # fmt: skip


@recipe(
    "Tan, Tian & Li 2023, GLIME: General, Stable and Local LIME Explanation",
    "every number of the input is a feature, while the paper adds one number to each superpixel.",
    takes="vectors",
)
def glime_gauss(scale: float | Tensor = 0.1, **settings: Any) -> VectorLime:
    """Ridge regression on normal noise that is added to the input, without weights or a fill.

    The settings are those of :class:`torchlime.VectorLime`. Its explanation is of vectors. For
    images, ``coefficients.unflatten(2, images.shape[1:])`` is the heatmap.
    """
    strategies: dict[str, Any] = {
        "sampler": Gaussian(antithetic=False), "kernel": Uniform(), "surrogate": Ridge(1.0),
    }  # fmt: skip
    check_free("glime_gauss", settings, strategies, VectorLime.__dataclass_fields__)
    return VectorLime(scale=scale, **strategies, **settings)


@recipe(
    "Zhao, Huang, Huang, Robu & Flynn 2021, BayLIME: Bayesian Local Interpretable Model-Agnostic "
    "Explanations",
)
def baylime(
    mean: float | Tensor = 0.0,
    precision: float | None = None,
    noise_precision: float | None = None,
    **settings: Unpack[MethodSettings],
) -> Lime:
    """LIME with a normal prior of the coefficients, which is given or maximises the evidence.

    ``mean`` may be the coefficients of another explanation of the same segments.
    """
    return with_lime(
        "baylime", {"num_samples": 1000, **settings},
        sampler=Bernoulli(0.5), kernel=Exponential(0.25),
        surrogate=BayesianRidge(mean, precision, noise_precision),
    )  # fmt: skip


@recipe(
    "Slack, Hilgard, Singh & Lakkaraju 2021, Reliable Post hoc Explanations: Modeling Uncertainty "
    "in Explainability",
    "the coefficients are the paper's posterior means; it stops by their heteroscedastic errors, "
    "not by credible intervals, and it does not draw samples where they are least sure.",
)
def bayeslime(error: float = 0.25, most: int = MOST, **settings: Unpack[MethodSettings]) -> Lime:
    """LIME that draws samples until its coefficients are sure, and says how sure they are.

    With the paper's prior, the posterior mean is the ridge regression of penalty 1.
    """
    return with_lime(
        "bayeslime", {"rounds": Until(error=error, most=most), **settings},
        sampler=Bernoulli(0.5), kernel=Exponential(0.25), surrogate=Ridge(1.0),
    )  # fmt: skip


@recipe(
    "Zhou, Hooker & Wang 2021, S-LIME: Stabilized-LIME for Model Explanation",
    "one test compares all pairs of features by their errors; the paper tests each step of a LARS "
    "path, which also selects the features.",
)
def slime(top: int = 5, most: int = MOST, **settings: Unpack[MethodSettings]) -> Lime:
    """LIME that draws samples until a test says that more would name the same strongest features.

    ``top`` is the number of strongest features that must be right.
    """
    return with_lime(
        "slime", {"rounds": Until(top=top, most=most), **settings},
        sampler=Bernoulli(0.5), kernel=Exponential(0.25), surrogate=Ridge(1.0),
    )  # fmt: skip


@recipe(
    "Bora, Terhörst, Veldhuis, Ramachandra & Raja 2024, SLICE: Stabilized LIME for Consistent "
    "Explanations for Image Classification",
    "one run is resampled, where the paper compares many runs; the blur is given, where the paper "
    "searches for it.",
    name="slice",
    also_fixes=("fill",),
)
def slice_lime(
    sigma: float = 10.0,
    threshold: float = 0.3,
    resamples: int = 40,
    **settings: Unpack[MethodSettings],
) -> Lime:
    """LIME with a blur behind hidden segments, which drops the segments whose sign is not sure."""
    return with_lime(
        "slice", {"num_samples": 1000, **settings},
        fill=Blur(sigma), sampler=Bernoulli(0.5), kernel=Exponential(0.25),
        surrogate=SignEntropy(Ridge(1.0), resamples, threshold),
    )  # fmt: skip


@recipe(
    "Bora, Terhörst, Veldhuis, Ramachandra & Raja 2025, BELIEF: Bayesian Sign Entropy "
    "Regularization for LIME Framework",
    "segments are dropped by the sign entropy of resampled fits, while the paper makes the entropy "
    "a prior, and drops segments as it optimises.",
)
def belief(threshold: float = 0.3, resamples: int = 40, **settings: Unpack[MethodSettings]) -> Lime:
    """Bayesian ridge regression that drops the segments whose sign is not sure."""
    return with_lime(
        "belief", {"num_samples": 1000, **settings},
        sampler=Bernoulli(0.5), kernel=Exponential(0.25),
        surrogate=SignEntropy(BayesianRidge(), resamples, threshold),
    )  # fmt: skip


@recipe(
    "Reproducibility Study of “SLICE: Stabilized LIME for Consistent Explanations for Image "
    "Classification”, TMLR 2025",
    "the numbers of rows and columns are this package's.",
    also_fixes=("segmenter",),
)
def grid_lime(rows: int = 7, cols: int = 7, **settings: Unpack[MethodSettings]) -> Lime:
    """LIME whose superpixels are the rectangles of a grid."""
    return with_lime(
        "grid_lime", {"num_samples": 1000, **settings},
        segmenter=Grid(rows, cols), sampler=Bernoulli(0.5), kernel=Exponential(0.25),
        surrogate=Ridge(1.0),
    )  # fmt: skip
