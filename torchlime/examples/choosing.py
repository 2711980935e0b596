"""Choosing: what segments, fills and samples do to one explanation, in two pictures.

Run it (`pip install 'torchlime[demo]'`; about a minute on two CPU cores):

    python -m torchlime.examples.choosing FOLDER

It writes FOLDER/segments.png and FOLDER/samples.png.
"""

import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from torchlime import Explanation, Lime, fills, metrics, models, plot
from torchlime.segments import Slic
from torchlime.strategies import Fill
from torchlime.weights import WithoutUnmasked

SEGMENTS = (20, 50, 150)
FILLS: dict[str, Fill] = {
    "mean": fills.SegmentMean(),
    "blur": fills.Blur(),
    "black": fills.Constant(0.0),
}
SAMPLES = (64, 128, 256, 512)
KERNEL = WithoutUnmasked()  # the unmasked image would shift every coefficient
CAPTION = 46  # the height in pixels of what stands under a panel
Explain = Callable[[Lime, int], Explanation]  # of settings and a seed


def explain_once(classifier: models.Classifier, pixels: Tensor) -> Explain:
    """A function that explains one image, and runs the model once for equal settings."""

    @cache
    def explain(explainer: Lime, seed: int) -> Explanation:
        return explainer.explain(classifier, pixels, seed=seed)

    return explain


def segments_and_fills(explain: Explain, pixels: Tensor) -> Tensor:
    """A row of panels by number of segments, and a row by fill: [3,H,W] uint8."""
    by_segments = {
        f"{count} segments": Lime(segmenter=Slic(count), num_samples=512, kernel=KERNEL)
        for count in SEGMENTS
    }
    by_fill = {
        f"hidden: {name}": Lime(fill=fill, num_samples=256, kernel=KERNEL)
        for name, fill in FILLS.items()
    }
    rows = [
        plot.side_by_side(*(_panel(explain, pixels, *one) for one in settings.items()))
        for settings in (by_segments, by_fill)
    ]
    return torch.cat(rows, dim=1)


def samples(explain: Explain, pixels: Tensor) -> Tensor:
    """A row of panels by number of samples, with what two seeds agree on: [3,H,W] uint8."""
    return plot.side_by_side(*_panels_of_samples(explain, pixels))


def _panels_of_samples(explain: Explain, pixels: Tensor) -> Iterator[Tensor]:
    for count in SAMPLES:
        explainer = Lime(num_samples=count, kernel=KERNEL)
        seeds = [explain(explainer, seed) for seed in (0, 1)]
        one = seeds[0].check()
        error = (one.standard_errors.mean() / one.coefficients.abs().max()).item()
        shared = metrics.overlap(seeds).item()
        words = f"error {error:.0%} of the largest\ntop 5 of two seeds: {shared:.0%} shared"
        yield _captioned(plot.overlay(one, pixels), f"{count} samples\n{words}")


def _panel(explain: Explain, pixels: Tensor, title: str, explainer: Lime) -> Tensor:
    explanation = explain(explainer, explainer.seed).check()
    fidelity = explanation.fidelity.item()
    return _captioned(plot.overlay(explanation, pixels), f"{title}\nfidelity {fidelity:.2f}")


def _captioned(picture: Tensor, text: str) -> Tensor:
    """The picture with text under it on white."""
    from PIL import Image, ImageDraw, ImageFont
    from torchvision.transforms.functional import pil_to_tensor

    above = plot.to_pil(picture)
    page = Image.new("RGB", (above.width, above.height + CAPTION), "white")
    page.paste(above, (0, 0))
    font = ImageFont.load_default(12)
    ImageDraw.Draw(page).text((2, above.height + 2), text, "black", font, spacing=1)
    return pil_to_tensor(page)


def main(folder: str) -> None:
    """Write both pictures."""
    classifier = models.load("efficientnet_lite0")
    pixels = classifier.preprocess(models.sample_photo())
    explain = explain_once(classifier, pixels)  # both pictures show 256 and 512 samples
    for name, made in (("segments", segments_and_fills), ("samples", samples)):
        plot.save_png(made(explain, pixels), Path(folder) / f"{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
