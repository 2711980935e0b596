"""Regions and boxes: what speaks for a class in a part of an image, and for an object's box.

torchvision's segmentation network LR-ASPP and its detector SSDlite run at random weights, so that
nothing is downloaded. The numbers mean nothing; the calls are those of trained networks. For
these, pass ``weights="DEFAULT"`` to torchvision's builders. Run it (under a minute on one core):

    python -m torchlime.examples.regions_and_boxes

What to expect of segmentation:

- A pixel's class is mostly explained by its surroundings, so segments in and near the region carry
  the evidence. Those far away tell what the network takes from context.
- A logit is the better unit where a network is sure: its probability stays at 1 while parts are
  hidden. ``unit="softmax"`` says how the class fares against the others.
- The largest class of a whole image is mostly background. So name the class, or let the region
  choose: ``classes=None`` takes the class with the best mean inside it.

What to expect of detection:

- A detector drops boxes below its threshold, so a fading box falls to 0 at once, and a linear
  surrogate fits such a step badly (low fidelity). Give it a low ``score_thresh``, such as 0.01.
- Without a class, the box whose IoU · confidence is best tells it. With a low threshold, boxes of
  many classes lie on one object; then name the class.
- The score mixes where the box is and how sure the detector is. Hiding the object's edges may
  shrink the box, which lowers the IoU.
- Most detectors resize inside, to 800 pixels and more, so the default number of rows in a forward
  pass, which looks at the images, is too large: pass ``chunk_size``. Out of memory, it is halved.
- If nothing of the class lies on the box in the unmasked image, ``explanation.check()`` says so.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from torchlime import Explanation, Lime
from torchlime.fills import Constant
from torchlime.segments import Grid
from torchlime.targets import Box, Region

SIDE = 96  # pixels of the images
SEGMENTS = 4  # in a row and in a column
EXPLAINER = Lime(segmenter=Grid(SEGMENTS, SEGMENTS), num_samples=96, fill=Constant(0.5))


def images(count: int = 2) -> Tensor:
    """Smooth noise [count,3,SIDE,SIDE] in [0,1]."""
    noise = torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(noise, size=(SIDE, SIDE), mode="bilinear")


def regions(count: int = 2) -> Tensor:
    """A region [count,SIDE,SIDE] for each image: the upper left quarter, then the lower right."""
    half, masks = SIDE // 2, torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    masks[::2, :half, :half] = True
    masks[1::2, half:, half:] = True
    return masks


def segmenter() -> nn.Module:
    """LR-ASPP, which returns {"out": logits [n,21,H,W]}, at random weights."""
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    torch.manual_seed(0)
    network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)
    return _awake(network, network)


def detector(score_thresh: float = 0.01) -> nn.Module:
    """SSDlite, which returns [{"boxes", "labels", "scores"}, …], at random weights."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    torch.manual_seed(0)
    network = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, score_thresh=score_thresh, num_classes=5
    )
    return _awake(network, network.backbone)


def _awake(network: nn.Module, part: nn.Module) -> nn.Module:
    """Random weights say the same of any image until the layers are normalised to some images."""
    for module in part.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over what it sees
            module.reset_running_stats()
    with torch.no_grad():
        part.train()(images(8))
    return network.eval()


def explain_regions() -> Explanation:
    """What speaks for the best class inside each image's own region."""
    return EXPLAINER.explain(segmenter(), images(), Region(regions()))


def explain_boxes() -> Explanation:
    """What speaks for the object that the detector is surest of, in each image."""
    explainer = replace(EXPLAINER, chunk_size=16)  # of images that become 320×320 inside
    return explainer.explain(detector(), images(), Box())


def main() -> None:
    """Print the coefficients of both."""
    for what, explanation in (("region", explain_regions()), ("box", explain_boxes())):
        explanation.check()
        for number in range(len(explanation)):
            grid = explanation.coefficients[number, 0].view(SEGMENTS, SEGMENTS)
            print(f"{what} of image {number}, class {int(explanation.targets[number, 0])}:")
            print(grid.numpy().round(4))


if __name__ == "__main__":
    main()
