"""Patches of a vision transformer left out, beside painted over: time, and what they find."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.settings import Row, Settings, photos
from benchmarks.tables import digits, markdown, milliseconds
from torchlime import Explanation, Lime, PatchLime, metrics
from torchlime.fills import Constant, SegmentMean
from torchlime.masks import Sizes
from torchlime.segments import Grid

MODELS = ("vit_small_patch16_224", "vit_b_16")
CHUNKS, GPU_CHUNKS = (6, 24), (64, 256)
HELD_OUT = 300
CAPTION = (
    "The first table has milliseconds a sample of one photo, for the same masks of 14×14 patches."
    " `explain()` paints a hidden patch in its mean colour, and `explain_patches()` leaves its"
    " token out. The networks have random weights, which do not change the time. The second table"
    " has the areas under the probability of the best class while patches are hidden (deletion:"
    " lower is better) and shown (insertion: higher is better), the strongest first. Hidden"
    " patches are either painted in the background's colour or left out. The network is a small"
    f" transformer, trained in the run on scikit-learn's digits (8×8 patches); the {HELD_OUT}"
    " images were held out. *Trained with dropout* has seen images with patches left out."
)


def run(settings: Settings) -> list[Row]:
    rows: list[Row] = []
    names = [name for name in MODELS if name in (settings.models or MODELS)]
    for name in names[: 1 if settings.quick else None]:
        chunks: tuple[int, ...] = GPU_CHUNKS if settings.on_gpu else CHUNKS
        for chunk_size in chunks[: 1 if settings.quick else None]:
            settings.say(f"tokens: {name}, chunk {chunk_size}")
            rows += times(settings, name, chunk_size)
    for dropout in (0.0, 0.5)[: 1 if settings.quick else None]:
        settings.say(f"tokens: areas, trained with dropout of {dropout}")
        rows += areas(settings, dropout)
    return rows


def times(settings: Settings, name: str, chunk_size: int) -> list[Row]:
    pixels = 64 if settings.quick else 224
    model = network(name, pixels, settings.device)
    image, side = photos(1, pixels, settings.device), pixels // 16
    samples = 4 * chunk_size if not settings.quick else 8
    shared: Any = {"num_samples": samples, "chunk_size": chunk_size, "sampler": Sizes()}
    painting = Lime(segmenter=Grid(side, side), fill=SegmentMean(), **shared)
    dropping = PatchLime(**shared)
    groups = PatchLime(**shared, segmenter=Grid(side // 2, side // 2))
    sides = {
        "painted": partial(painting.explain, model, image, 0),
        "left out": partial(dropping.explain, model, image, 0),
        "left out, 2×2 patches each": partial(groups.explain, model, image, 0),
    }
    readings = settings.timer()(sides)
    return [
        {
            "model": name, "dtype": "float32", "hidden": side, "chunk_size": chunk_size,
            "samples": samples, "seconds_per_row": readings[side].per(samples).record(),
            "painted_over": readings["painted"].over(readings[side]).record(),
        }
        for side in sides
    ]  # fmt: skip


def network(name: str, pixels: int, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("vit_b"):
        import torchvision

        return torchvision.models.vit_b_16(image_size=pixels).to(device).eval()
    import timm

    return timm.create_model(name, img_size=pixels).to(device).eval()


class Probabilities(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).softmax(dim=1)


def areas(settings: Settings, dropout: float) -> list[Row]:
    network, images, accuracy = trained(dropout, settings)
    model, black = Probabilities(network).eval(), Constant(0.0)
    samples = 40 if settings.quick else 1000
    shared: Any = {"num_samples": samples, "sampler": Sizes()}
    found = {
        "painted": Lime(segmenter=Grid(8, 8), fill=black, **shared).explain(model, images),
        "left out": PatchLime(**shared).explain(model, images),
    }
    rows = []
    for hidden, e in found.items():
        left_out = dropped_areas(model, images, e)
        rows.append({
            "model": "trained with dropout" if dropout else "trained", "dtype": "float32",
            "hidden": hidden, "samples": samples, "images": len(images), "accuracy": accuracy,
            "fidelity": e.fidelity.mean().item(),
            "deletion_painted": metrics.deletion(model, images, e, fill=black).mean().item(),
            "insertion_painted": metrics.insertion(model, images, e, fill=black).mean().item(),
            "deletion_left_out": left_out[0], "insertion_left_out": left_out[1],
        })  # fmt: skip
    return rows


def dropped_areas(model: nn.Module, images: Tensor, e: Explanation) -> tuple[float, float]:
    """Deletion and insertion as the metrics have them, hidden patches left out."""
    order = e.coefficients[:, 0].sort(dim=1, descending=True, stable=True).indices
    ranks = order.argsort(dim=1)[:, None]
    step = torch.arange(ranks.shape[2] + 1, device=images.device)[:, None]
    explainer = PatchLime()
    return tuple(  # type: ignore[return-value]
        torch.trapezoid(explainer.scores(model, images, masks, e.targets)[..., 0]).mean().item()
        / ranks.shape[2]
        for masks in (ranks >= step, ranks < step)
    )


def trained(dropout: float, settings: Settings) -> tuple[nn.Module, Tensor, float]:
    """A small transformer, held-out images [n,1,32,32], and its accuracy on all that were."""
    from sklearn import datasets
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    digits, labels = (torch.from_numpy(array) for array in datasets.load_digits(return_X_y=True))
    images = digits.float().view(-1, 1, 8, 8).to(settings.device) / 16
    images, labels = F.interpolate(images, scale_factor=4), labels.to(settings.device)
    order = torch.randperm(len(images)).to(settings.device)
    rest, held = order[2 * HELD_OUT :], order[: 2 * HELD_OUT]
    network = VisionTransformer(
        img_size=32, patch_size=4, in_chans=1, num_classes=10, embed_dim=64, depth=4, num_heads=4,
        patch_drop_rate=dropout,
    ).to(settings.device)  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    for _ in range(1 if settings.quick else 40):
        for batch in rest[torch.randperm(len(rest)).to(rest.device)].split(64):
            loss = F.cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()
    with torch.no_grad():
        right = network(images[held]).argmax(1) == labels[held]
    return network, images[held[: 2 if settings.quick else HELD_OUT]], right.float().mean().item()


def table(rows: list[Row]) -> str:
    timed = [
        [
            row["model"], row["hidden"], row["chunk_size"], row["samples"],
            milliseconds(row["seconds_per_row"]),
            f"{digits(row['painted_over']['median'])} ± {digits(row['painted_over']['spread'])}",
        ]
        for row in rows
        if "seconds_per_row" in row
    ]  # fmt: skip
    head = ["model", "a hidden patch is", "chunk", "N", "ms a sample", "painted / this"]
    parts = [markdown(head, timed)] if timed else []
    areas = ("deletion_painted", "insertion_painted", "deletion_left_out", "insertion_left_out")
    found = [
        [row["model"], row["hidden"], f"{row['accuracy']:.3f}", f"{row['fidelity']:.2f}"]
        + [f"{row[name]:.3f}" for name in areas]
        for row in rows
        if "accuracy" in row
    ]
    head = ["network", "explained by", "accuracy", "fidelity", "deletion, painted"]
    head += ["insertion, painted", "deletion, left out", "insertion, left out"]
    return "\n\n".join([*parts, markdown(head, found)])
