"""Published rules that choose or count their samples, re-implemented to be compared."""

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import torch
from torch import Tensor

from benchmarks.games import KERNEL, Game
from torchlime.masks import Bernoulli
from torchlime.strategies import Surrogate

FIRST, CANDIDATES, BATCH = 32, 256, 16


def focused(
    game: Game, surrogate: Surrogate, seed: Tensor, numbers: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """BayesLIME's focused sampling (Slack et al. 2021): masks where the surrogate is least sure.

    After 32 random masks, each batch of 16 is drawn from 256 candidates, with probabilities that
    are the softmax of their predictive standard deviations (prior of variance 1, weights as in the
    fit). Yields each number of rows and the coefficients [R,K] there.
    """
    generator = torch.Generator().manual_seed(int(seed[0]))
    count = game.count.repeat(len(seed))
    masks = Bernoulli()(count, game.features, FIRST, seed=seed)
    wanted = iter(sorted(numbers))
    number = next(wanted, None)
    while number is not None:
        while masks.shape[1] < number:
            masks = torch.cat([masks, _least_sure(game, masks, count, generator)], dim=1)
        some = masks[:, :number]
        yield number, game.fit(surrogate, some, KERNEL(some, count)).coefficients[:, 0]
        number = next(wanted, None)


def _least_sure(game: Game, masks: Tensor, count: Tensor, generator: torch.Generator) -> Tensor:
    shape = (len(masks), CANDIDATES, game.features)
    candidates = torch.rand(shape, generator=generator) < 0.5
    design, new = (
        torch.cat([torch.ones_like(z[..., :1]), z], 2).double() for z in (masks, candidates)
    )
    weights = KERNEL(masks, count)
    precision = (design * weights[..., None]).mT @ design + torch.eye(design.shape[2])
    scores = game.scores(masks)
    solved = torch.linalg.solve(precision, (design * weights[..., None]).mT @ scores[..., None])
    residuals = scores - (design @ solved)[..., 0]
    variance = (weights * residuals.square()).mean(1, keepdim=True)
    spread = (new * torch.linalg.solve(precision, new.mT).mT).sum(2)
    deviation = (variance * (1 + spread)).sqrt()
    share = (deviation / deviation.mean(1, keepdim=True)).softmax(1)
    chosen = torch.multinomial(share, BATCH, replacement=True, generator=generator)
    return candidates.gather(1, chosen[..., None].expand(-1, -1, game.features))


def slime(
    game: Game, surrogate: Surrogate, seed: Tensor, top: int, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """S-LIME (Zhou et al. 2021): more masks until each step of a forward selection is certain.

    At each of ``top`` steps the feature whose covariance with the residual is the largest has to
    beat the next at p = .05, by the central limit theorem. If it does not, the number of masks
    grows to what the test asks for. Returns the coefficients [R,K], the rows, and whether all steps
    were certain.
    """
    found, used, sure = [], [], []
    quantile = NormalDist().inv_cdf(0.95)
    for one in seed:
        number, certain = 64, False
        while True:
            masks = Bernoulli()(game.count, game.features, number, seed=one[None])
            asked = _asked(game, masks[0], top, quantile)
            certain = asked <= number
            if certain or number >= most:
                break
            number = min(max(int(asked), number + 32), most)
        fit = game.fit(surrogate, masks, KERNEL(masks, game.count))
        found.append(fit.coefficients[0, 0])
        used.append(number)
        sure.append(certain)
    return torch.stack(found), torch.tensor(used), torch.tensor(sure)


def _asked(game: Game, masks: Tensor, top: int, quantile: float) -> float:
    """How many masks the step that is least certain asks for."""
    weights = KERNEL(masks[None], game.count)[0]
    root = weights.sqrt()
    z = root[:, None] * (masks.double() - weights @ masks.double() / weights.sum())
    y = root * (game.scores(masks) - weights @ game.scores(masks) / weights.sum())
    z = z / z.norm(dim=0) * len(z) ** 0.5
    residual, chosen, most = y, torch.zeros(game.features, dtype=torch.bool), 0.0
    for _ in range(top):
        products = z * residual[:, None]
        products = products * products.mean(0).sign()
        order = products.mean(0).masked_fill(chosen, -torch.inf).argsort(descending=True)[:2]
        gap = products[:, order[0]] - products[:, order[1]]
        need = (quantile * gap.std() / gap.mean().clamp(min=1e-12)) ** 2
        most = max(most, need.item())
        chosen[order[0]] = True
        basis = z[:, chosen]
        residual = y - basis @ torch.linalg.lstsq(basis, y[:, None]).solution[:, 0]
    return most
