"""Games: models of a few features whose fit to all masks, or to very many, is known.

A game has the scores of masks. Of 14 features or fewer it has those of all 2^S masks, so errors are
exact. Photos of more segments are scored as masks come, and each mask once.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.settings import PHOTOS, Settings, classifier, photo
from torchlime._given_masks import score_masks
from torchlime.black_box import Forward
from torchlime.fills import SegmentMean
from torchlime.fit import Fit
from torchlime.masks import Orthogonal
from torchlime.segments import Grid, Segments, Slic
from torchlime.strategies import Segmenter, Surrogate
from torchlime.surrogates import LeastSquares
from torchlime.weights import Exponential

KERNEL = Exponential()
OUTPUTS = ("probability", "log-odds")
SQUARES = {4: 2048, 5: 2048, 7: 4096, 10: 4096}  # √S of photos: the masks of the reference
PIXELS = 96  # of photos with many segments
REFERENCE_SEED = 10_000

Outputs = Callable[[Tensor], Tensor]  # masks [...,S] → probability and log-odds [...,2]


@dataclass(frozen=True, eq=False)
class Game:
    """One output of a model of S features.

    Args:
        of: which set of games it belongs to.
        output: probability, or log-odds.
        features: S.
        outputs: the model.
        every: masks [N,S] whose fit is the truth.
    """

    of: str
    output: str
    features: int
    outputs: Outputs
    every: Tensor = field(repr=False)

    @property
    def count(self) -> Tensor:
        """[1]."""
        return torch.tensor([self.features])

    def scores(self, masks: Tensor) -> Tensor:
        """The scores [...] of masks [...,S]."""
        return self.outputs(masks)[..., OUTPUTS.index(self.output)]

    def truth(self) -> Tensor:
        """The coefficients [S] of the fit to all masks."""
        masks = self.every[None]
        return self.fit(LeastSquares(), masks, KERNEL(masks, self.count)).coefficients[0, 0]

    def fit(self, surrogate: Surrogate, masks: Tensor, weights: Tensor) -> Fit:
        """The fit to R draws of masks [R,N,S] with weights [R,N]; its tensors are [R,1,…]."""
        count = self.count.repeat(len(masks))
        return surrogate(masks, self.scores(masks)[..., None], weights, count)


class Table:
    """Outputs of all masks [2^S,2]; bit j of a mask's number is set where j is kept."""

    def __init__(self, logits: Tensor) -> None:
        self.table = both(logits, int(logits[-1].argmax()))  # the last mask keeps all

    def __call__(self, masks: Tensor) -> Tensor:
        places = torch.arange(masks.shape[-1])
        return self.table[(masks.long() << places).sum(-1)]


class Bank:
    """Outputs of masks, each of which is scored once: ``score`` takes those that are new [n,S]."""

    def __init__(self, score: Outputs) -> None:
        self.score = score
        self.places: dict[bytes, int] = {}
        self.outputs = torch.empty(0, 2, dtype=torch.float64)

    def __call__(self, masks: Tensor) -> Tensor:
        rows = masks.flatten(0, -2)
        keys = [row.tobytes() for row in rows.numpy()]
        new = {key: i for i, key in enumerate(keys) if key not in self.places}
        if new:
            self.places |= {key: len(self.places) + i for i, key in enumerate(new)}
            self.outputs = torch.cat([self.outputs, self.score(rows[list(new.values())])])
        return self.outputs[[self.places[key] for key in keys]].unflatten(0, masks.shape[:-1])


def both(logits: Tensor, best: int) -> Tensor:
    """Probability and log-odds [N,2] of a class, of logits [N,classes]."""
    logits = logits.double()
    # The rest is 1 − p; its logarithm is that of the sum over the other classes.
    others = torch.cat([logits[:, :best], logits[:, best + 1 :]], dim=1).logsumexp(1)
    return torch.stack([logits.softmax(1)[:, best], logits[:, best] - others], dim=1)


def every_mask(features: int) -> Tensor:
    """All masks [2^S,S] bool, in the order of their numbers."""
    return (torch.arange(1 << features)[:, None] >> torch.arange(features)) % 2 == 1


def enumerated(settings: Settings) -> Iterator[Game]:
    """Photos in 3×3 squares of 128 pixels, and random networks; each output is a game."""
    for of, logits in _enumerated(settings):
        masks = every_mask(logits.features)
        outputs = Table(logits(masks))
        for output in OUTPUTS:
            yield Game(of, output, logits.features, outputs, masks)


def _enumerated(settings: Settings) -> Iterator[tuple[str, "PhotoLogits | Network"]]:
    quick = settings.quick
    squares, pixels = (Grid(2, 3), 64) if quick else (Grid(3, 3), 128)
    for name in PHOTOS[: settings.photos or (1 if quick else 6)]:
        yield "photos", PhotoLogits(settings, name, squares, pixels)
    number = 2 if quick else 12
    for odd, seed in itertools.product((False, True), range(number)):
        yield f"{'odd ' * odd}networks", Network(seed, number, 6 if quick else 14, odd)


def photos(settings: Settings, squares: int) -> Iterator[Game]:
    """Photos of ``squares``² segments, in a grid and of Slic in turn; in bfloat16."""
    quick = settings.quick
    names = PHOTOS[: settings.photos or (1 if quick else 6)]
    for place, name in enumerate(names):
        grid = (place + squares) % 2 == 0
        segmenter = Grid(squares, squares) if grid else Slic(squares**2)
        logits = PhotoLogits(settings, name, segmenter, 64 if quick else PIXELS, torch.bfloat16)
        bank = Bank(logits.of_best)
        size = settings.reference or (256 if quick else SQUARES[squares])
        count = torch.tensor([logits.features])
        every = Orthogonal()(count, logits.features, size, seed=REFERENCE_SEED)[0]
        for output in OUTPUTS:
            yield Game(f"photos, S = {squares**2}", output, logits.features, bank, every)


class PhotoLogits:
    """EfficientNet-Lite0's logits of a photo whose segments are hidden by their mean colour."""

    def __init__(
        self, settings: Settings, name: str, segmenter: Segmenter, pixels: int,
        autocast: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        self.model = classifier("efficientnet_lite0", settings.device)
        self.model.output = "logit"
        image = self.model.preprocess(photo(name))
        self.image = torch.nn.functional.interpolate(image, pixels, mode="area")
        segments = segmenter(self.image)
        assert isinstance(segments, Segments)
        self.segments = segments
        self.features = int(self.segments.count)
        chunk = None if image.device.type == "cuda" else 16  # in a CPU's cache
        self.forward = Forward(chunk_size=chunk, autocast=autocast)
        self.best = int(self(torch.ones(1, self.features, dtype=torch.bool)).argmax())

    def __call__(self, masks: Tensor) -> Tensor:
        """[N,1000] of masks [N,S]."""
        device = self.image.device
        beyond = self.segments.bound - self.features  # columns without a segment
        padded = torch.nn.functional.pad(masks, (0, beyond)).to(device)
        every = torch.arange(1000, device=device)[None]
        scores = score_masks(
            self.model, self.image, self.segments, SegmentMean(), padded, every,
            forward=self.forward,
        )  # fmt: skip
        return scores[0].cpu()

    def of_best(self, masks: Tensor) -> Tensor:
        """Probability and log-odds [N,2] of the photo's best class."""
        return both(self(masks), self.best)


class Network:
    """Logits of a random network, from nearly linear (seed 0) to strongly curved (the last).

    A hidden input is 0. ``odd`` networks have no biases, and see −½ and ½: their log-odds of a mask
    and of its complement are opposite, so that complement pairs gain nothing.
    """

    def __init__(self, seed: int, number: int, features: int, odd: bool) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.layers = [
            torch.randn(*shape, generator=generator, dtype=torch.float64) / shape[0] ** 0.5
            for shape in ((features, 24), (24, 24), (24, 3))
        ]
        self.biases = torch.randn(2, 24, generator=generator, dtype=torch.float64) * (not odd)
        self.gain = 1.5 + 2.5 * seed / max(number - 1, 1)
        self.features, self.low = features, -0.5 * odd

    def __call__(self, masks: Tensor) -> Tensor:
        """[N,3] of masks [N,S]."""
        hidden = (self.gain * (masks.double() + self.low) @ self.layers[0] + self.biases[0]).tanh()
        return 4 * (self.gain * hidden @ self.layers[1] + self.biases[1]).tanh() @ self.layers[2]
