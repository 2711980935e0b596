"""Games: models whose scores of all 2^K masks are known, so that every fit's error is, too."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.settings import PHOTOS, Settings, classifier, photo
from torchlime._given_masks import score_masks
from torchlime.fills import SegmentMean
from torchlime.segments import Grid
from torchlime.surrogates import LeastSquares
from torchlime.weights import Exponential

KERNEL, SURROGATE = Exponential(), LeastSquares()
OUTPUTS = ("probability", "log-odds")


@dataclass(frozen=True, eq=False)
class Game:
    """The scores of all masks of K features.

    Args:
        of: which set of games it belongs to.
        output: probability, or log-odds.
        table: [2^K], the score of each mask; bit j of its number is set where j is kept.
    """

    of: str
    output: str
    table: Tensor

    @property
    def features(self) -> int:
        """K."""
        return len(self.table).bit_length() - 1

    def scores(self, masks: Tensor) -> Tensor:
        """The scores [...] of masks [...,K]."""
        places = torch.arange(self.features)
        return self.table[(masks.long() << places).sum(-1)]

    def truth(self) -> Tensor:
        """The coefficients [K] of the fit to all masks."""
        masks = every_mask(self.features)
        return coefficients(self, masks[None], KERNEL(masks[None], self.count))[0]

    @property
    def count(self) -> Tensor:
        """[1]."""
        return torch.tensor([self.features])


def every_mask(features: int) -> Tensor:
    """All masks [2^K,K] bool, in the order of their numbers."""
    return (torch.arange(1 << features)[:, None] >> torch.arange(features)) % 2 == 1


def coefficients(game: Game, masks: Tensor, weights: Tensor) -> Tensor:
    """The coefficients [R,K] of R draws of masks [R,N,K] with weights [R,N]."""
    scores = game.scores(masks)[..., None]
    return SURROGATE(masks, scores, weights, game.count.repeat(len(masks))).coefficients[:, 0]


def games(settings: Settings) -> Iterator[Game]:
    """Photos in squares, and random networks; each as probability and as log-odds."""
    quick = settings.quick
    number = 2 if quick else 12
    every = _photos(settings), networks(number, quick), networks(number, quick, odd=True)
    for name, logits in itertools.chain(*every):
        yield from games_of(name, logits, int(logits[-1].argmax()))  # of the mask that keeps all


def games_of(name: str, logits: Tensor, target: int) -> list[Game]:
    """The probability and the log-odds of a class, from the logits [2^K,classes] of all masks."""
    shares = logits.double().log_softmax(1)[:, target]
    # The rest is 1 − p; its logarithm is that of the sum over the other classes.
    others = logits.double().clone()
    others[:, target] = -torch.inf
    odds = logits.double()[:, target] - others.logsumexp(1)
    tables = shares.exp(), odds
    return [Game(name, output, table) for output, table in zip(OUTPUTS, tables, strict=True)]


def _photos(settings: Settings) -> Iterator[tuple[str, Tensor]]:
    """EfficientNet-Lite0's logits [2^9,1000] of photos of 128×128 pixels in 3×3 squares.

    A square's mean hides it.
    """
    quick = settings.quick
    names = PHOTOS[: settings.photos or (1 if quick else 6)]
    model = classifier("efficientnet_lite0", settings.device)
    model.output = "logit"
    for name in names:
        image = model.preprocess(photo(name))
        image = torch.nn.functional.interpolate(image, 64 if quick else 128, mode="area")
        segments = Grid(2, 3)(image) if quick else Grid(3, 3)(image)
        masks = every_mask(segments.bound).to(settings.device)
        settings.say(f"stopping: {len(masks)} masks of {name}")
        every = torch.arange(1000, device=settings.device)[None]
        scores = score_masks(model, image, segments, SegmentMean(), masks, every)
        yield "photos", scores[0].cpu()


def networks(number: int, quick: bool, odd: bool = False) -> Iterator[tuple[str, Tensor]]:
    """Logits [2^K,3] of random networks of K inputs, from nearly linear to strongly curved.

    A hidden input is 0. ``odd`` networks have no biases, and see −½ and ½: their log-odds of a mask
    and of its complement are opposite, so that complement pairs gain nothing.
    """
    features = 6 if quick else 14
    for seed in range(number):
        generator = torch.Generator().manual_seed(seed)
        layers = [
            torch.randn(*shape, generator=generator, dtype=torch.float64) / shape[0] ** 0.5
            for shape in ((features, 24), (24, 24), (24, 3))
        ]
        biases = torch.randn(2, 24, generator=generator, dtype=torch.float64) * (not odd)
        gain = 1.5 + 2.5 * seed / max(number - 1, 1)
        masks = every_mask(features).double() - 0.5 * odd
        hidden = (gain * masks @ layers[0] + biases[0]).tanh()
        logits = 4 * (gain * hidden @ layers[1] + biases[1]).tanh() @ layers[2]
        yield ("odd networks" if odd else "networks"), logits
