"""Right for the right reason: train on explanations, so that a network does not learn a shortcut.

scikit-learn's handwritten digits get a small bright pattern in the upper left corner that gives
the class away. A plain network reads the pattern instead of the digit, and fails as soon as the
pattern sits in another corner. The same network, trained with a penalty on what LIME says of that
corner, reads the digit:

    loss = cross entropy + PENALTY · mean |coefficient of the corner's segment, for any class|

The explanation of a training step takes few samples, a new seed each step, and
``differentiable=True``: gradients run through the scores and the closed-form fit to the weights.
The idea is Ross, Hughes & Doshi-Velez 2017 (there with input gradients instead of LIME).

Run it (`pip install 'torchlime[training]'`; under a minute on one CPU core):

    python -m torchlime.examples.right_for_the_right_reason
"""

from importlib.metadata import version
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from torchlime import Lime
from torchlime._extras import imported
from torchlime.fills import Constant
from torchlime.masks import Bernoulli
from torchlime.segments import Grid
from torchlime.surrogates import Ridge
from torchlime.weights import Uniform

SIDE = 3  # of the pattern, in pixels
CORNER = 0  # the segment of Grid(4, 4) on 12×12 pixels that holds it
PENALTY = 3.0
EPOCHS = 8
BATCH = 64
EXPLAINER = Lime(
    segmenter=Grid(4, 4),
    sampler=Bernoulli(),
    num_samples=8,
    fill=Constant(0.0),
    kernel=Uniform(),
    surrogate=Ridge(0.1),
    chunk_size=512,
)


class Accuracy(NamedTuple):
    """Shares of the test digits that a network names correctly, by the place of the pattern."""

    planted: float
    without: float
    moved: float


def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's 1,797 digits on 12×12 pixels, in faint ink: images [n,1,12,12], labels [n]."""
    data = imported("sklearn.datasets", "this example", "training").load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 32
    return pad(images, (2, 2, 2, 2)), torch.from_numpy(data.target).long()


def planted(images: Tensor, labels: Tensor, corner: int = 0) -> Tensor:
    """The images with each label's pattern in a corner: 0 upper left, then row by row."""
    bits = torch.arange(SIDE * SIDE)
    patterns = ((37 * (labels[:, None] + 1)) >> bits) & 1  # ten different ones
    row, column = (0 if place == 0 else -SIDE for place in divmod(corner, 2))
    images = images.clone()
    where = (..., slice(row, row + SIDE or None), slice(column, column + SIDE or None))
    images[where] = patterns.view(-1, 1, SIDE, SIDE).to(images.dtype)
    return images


def network() -> nn.Module:
    """A small CNN, whose head sees where things are."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 4 * 4, 10),
    )  # fmt: skip


def train(images: Tensor, labels: Tensor, penalty: float, seed: int = 0) -> nn.Module:
    """A network trained on ``images`` with that penalty on the corner's coefficient."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    classes = torch.arange(10)
    order = torch.Generator().manual_seed(seed)
    for epoch in range(EPOCHS):
        for step, batch in enumerate(torch.randperm(len(images), generator=order).split(BATCH)):
            loss = cross_entropy(net(images[batch]), labels[batch])
            if penalty:
                explanation = EXPLAINER.explain(
                    net, images[batch], classes.expand(len(batch), -1),
                    seed=epoch * len(images) + step, differentiable=True,
                )  # fmt: skip
                loss = loss + penalty * explanation.coefficients[:, :, CORNER].abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> Accuracy:
    """How often the network is right with the pattern in place, without it, and moved."""

    def right(images: Tensor) -> float:
        return (net(images).argmax(1) == labels).float().mean().item()

    moved = [right(planted(images, labels, corner)) for corner in (1, 2, 3)]
    return Accuracy(right(planted(images, labels)), right(images), sum(moved) / len(moved))


def experiment(seed: int) -> tuple[Accuracy, Accuracy]:
    """Accuracies of the plain and of the penalised network on digits that neither has seen."""
    images, labels = digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    test, training = order[:597], order[597:]
    seen = planted(images[training], labels[training])
    plain, penalised = (
        accuracy(train(seen, labels[training], penalty, seed), images[test], labels[test])
        for penalty in (0.0, PENALTY)
    )
    return plain, penalised


def table(results: list[tuple[Accuracy, Accuracy]]) -> str:
    """The results of :func:`experiment` as a Markdown table."""
    lines = [
        "| seed | training | pattern in place | no pattern | pattern moved |",
        "|---|---|---|---|---|",
    ]
    for seed, pair in enumerate(results):
        for name, shares in zip(("plain", "penalised"), pair, strict=True):
            cells = " | ".join(f"{100 * share:.1f} %" for share in shares)
            lines.append(f"| {seed} | {name} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)  # another number rounds differently; a small network gains nothing
    print(table([experiment(seed) for seed in range(3)]))
    print(f"\nSeeds 0 to 2, torch {torch.__version__}, scikit-learn {version('scikit-learn')}.")
