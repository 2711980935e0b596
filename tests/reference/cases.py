"""The settings whose numbers are written down, each a small explanation of a fixed model.

``python -m tests.reference.cases`` writes ``numbers.npz`` anew: only where a number changes on
purpose, which CHANGELOG.md then says.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from torchlime import Lime, explain, explain_vector
from torchlime.fills import Blur, Constant, ImageMean, SegmentMean
from torchlime.masks import Bernoulli, Exhaustive, FixedCount, Orthogonal
from torchlime.noise import Gaussian
from torchlime.segments import Grid, Slic
from torchlime.surrogates import Lasso, LeastSquares, Ridge
from torchlime.weights import Exponential, InverseDistance, Uniform, WithoutUnmasked

NUMBERS = Path(__file__).with_name("numbers.npz")
FIELDS = (
    "coefficients", "standard_errors", "intercepts", "fidelity", "targets", "scores",
    "local_predictions", "segments", "segment_count", "effective_samples", "problems",
    "masks", "sample_scores", "weights", "energy", "vectors", "scale",
)  # fmt: skip


def waves(*shape: int, shift: float = 0.0) -> Tensor:
    """Numbers in [0,1] that no random generator makes."""
    count = torch.arange(torch.tensor(shape).prod().item(), dtype=torch.float64)
    return ((count * 0.7548776662466927 + shift) % 1.0).sqrt().view(shape)


def photos(batch: int = 2, channels: int = 3, height: int = 48, width: int = 40) -> Tensor:
    """Smooth pictures with edges: [B,C,H,W] float64 in [0,1]."""
    coarse = waves(batch, channels, 6, 5)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


class Network(nn.Module):
    """A small convolutional network in float64: [n,C,H,W] → [n,5]."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(waves(6, channels, 3, 3) - 0.6)
        self.head = nn.Parameter(waves(5, 24, shift=0.3) - 0.6)

    def forward(self, images: Tensor) -> Tensor:
        features = torch.nn.functional.conv2d(images, self.weight, stride=2).relu()
        pooled = torch.nn.functional.adaptive_avg_pool2d(features, 2).flatten(1)
        return (3 * pooled @ self.head.T).tanh()


def table(x: Tensor) -> Tensor:
    """A nonlinear function of vectors [n,…] → [n,3]."""
    flat = x.flatten(1)
    weights = waves(flat.shape[1], 3).to(flat.dtype) - 0.5
    return (flat @ weights).sin() + 0.1 * flat.square().sum(1, keepdim=True)


def _images(settings, *args, batch=2, channels=3, **call):
    def run():
        explainer = Lime(**settings)
        return explainer.explain(
            Network(channels), photos(batch, channels), *args, keep_samples=True, **call
        )

    return run


def _vectors(*args, shape=(3, 7), **settings):
    return lambda: explain_vector(
        table, 2 * waves(*shape) - 1, *args, keep_samples=True, **settings
    )


_labels = (torch.arange(48)[:, None] // 12 * 3 + torch.arange(40) // 14) * 5 - 7
_half = _labels.flip(1) // 2
_each = torch.stack([_labels, torch.where(_half == -1, -2, _half)])  # since 0.3.0 −1 is background
_soft = {"width": 0.5, "distance": "pixel_euclidean"}

CASES = {
    "the defaults": _images({}),
    "the defaults, fewer samples": _images({"num_samples": 64, "segmenter": Slic(12)}, 1),
    "without blur, bernoulli, uniform": _images(
        {"segmenter": Slic(30, blur=False, iterations=2), "sampler": Bernoulli(0.7),
         "num_samples": 150, "fill": ImageMean(), "kernel": Uniform(),
         "surrogate": LeastSquares(), "seed": 5}, top=3),
    "grid, two blocks, blur": _images(
        {"segmenter": Grid(4, 5), "sampler": Orthogonal(), "num_samples": 300, "fill": Blur(2.0),
         "surrogate": LeastSquares(), "chunk_size": 7}, torch.tensor([[0, 1], [3, 2]])),
    "exhaustive": _images(
        {"segmenter": Grid(2, 4), "sampler": Exhaustive(), "num_samples": 256,
         "fill": Constant((0.1, 0.2, 0.3))}, torch.tensor([4, 0])),
    "fixed count, inverse, lasso": _images(
        {"segmenter": Slic(16), "sampler": FixedCount(0.2), "num_samples": 100,
         "fill": SegmentMean(), "kernel": InverseDistance(), "surrogate": Lasso(fraction=0.2)},
        top=2),
    "pixel distance, lasso": _images(
        {"segmenter": Grid(3, 3), "num_samples": 128, "kernel": Exponential(**_soft),
         "surrogate": Lasso(alpha=0.01)}, 2),
    "euclidean, without unmasked": _images(
        {"segmenter": Grid(3, 4), "num_samples": 100,
         "kernel": WithoutUnmasked(Exponential(2.0, "euclidean"))}, top=5),
    "a label map of any integers": _images({"num_samples": 80}, segments=_labels),
    "label maps of each, own seeds": _images(
        {"num_samples": 80}, segments=_each, max_segments=15, seed=torch.tensor([3, 2**62])),
    "a tensor as fill": _images({"segmenter": Grid(3, 3), "num_samples": 64,
                                 "fill": waves(3, 1, 1)}, 1),
    "one channel": _images({"segmenter": Slic(9), "num_samples": 60}, channels=1),
    "seven channels, one image": _images(
        {"segmenter": Grid(3, 3), "num_samples": 60, "surrogate": Ridge(0.0)}, 0, batch=1,
        channels=7),
    "differentiable": _images({"segmenter": Grid(3, 3), "num_samples": 60}, 0,
                              differentiable=True),
    "vectors": _vectors(num_samples=100),
    "vectors, independent": _vectors(
        1, num_samples=60, scale=0.3, sampler=Gaussian(antithetic=False), kernel=Uniform(),
        surrogate=LeastSquares(), seed=9),
    "vectors, own scales and seeds": _vectors(
        torch.tensor([[0, 2], [1, 0], [2, 1]]), num_samples=50, scale=waves(7) + 0.1,
        seed=torch.tensor([1, -5, 2**40]), kernel=InverseDistance("euclidean"),
        surrogate=Ridge(0.1), chunk_size=11),
    "vectors, fewer rows than features": _vectors(
        top=2, shape=(2, 3, 30), num_samples=40, sampler=Gaussian(antithetic=False)),
    "vectors, fewer rows, minimum norm": _vectors(
        0, shape=(2, 90), num_samples=40, sampler=Gaussian(antithetic=False),
        surrogate=LeastSquares()),
    "vectors, lasso": _vectors(0, num_samples=80, surrogate=Lasso(alpha=0.005), scale=0.2),
    "float32": lambda: explain(
        lambda x: x.mean((2, 3)), photos().float(), segmenter=Grid(3, 3), num_samples=64,
        keep_samples=True),
}  # fmt: skip


def numbers() -> dict[str, np.ndarray]:
    """Every field of every case, as "case/field"."""
    found = {}
    for name, run in CASES.items():
        explanation = run()
        for field in FIELDS:
            value = getattr(explanation, field)
            if value is not None and value.numel():
                found[f"{name}/{field}"] = value.detach().numpy()
    return found


if __name__ == "__main__":
    np.savez_compressed(NUMBERS, **numbers())
