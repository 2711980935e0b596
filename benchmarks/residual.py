"""How much of the surrogate's residual complement pairs cancel: what Orthogonal can gain at most.

With g(z) = w(z) (f(z) − β₀ − βᵀz), the weighted residual of the fit, the coefficients of a draw err
by a multiple of Σ g(z) (z − ½). In the complement of z, z − ½ changes its sign: what g has in
common with its complement, its even part, cancels, and its odd part counts twice. Independent
samples err by E g², pairs by 2 E g_odd² a sample. Orthogonal columns gain N / (N − S) besides,
since no coefficient is estimated at the cost of another.
"""

from benchmarks.games import KERNEL
from benchmarks.samples import OUTPUTS, REFERENCE_SEED, Photos, select
from benchmarks.settings import Row, Settings
from benchmarks.tables import markdown
from torchlime.masks import Orthogonal
from torchlime.surrogates import LeastSquares

CAPTION = (
    "The photos and squares are those of *samples*, at 224 pixels. *Even* is the share of the"
    " weighted residual's square that a mask has in common with its complement. *Gain* is the"
    " factor by which complement pairs need fewer samples than independent masks. Orthogonal"
    " columns gain another factor, 256 / (256 − 49) = 1.24 at N = 256."
)


def run(settings: Settings) -> list[Row]:
    photos = Photos(settings)
    masks = photos.draw(Orthogonal(), 128 if settings.quick else 4096, REFERENCE_SEED)
    settings.say(f"residual: {len(masks)} masks for each photo")
    scores = photos.score(masks)
    count = photos.segments.count
    masks = masks.expand(len(scores), -1, -1)
    weights = KERNEL(masks, count)
    fit = LeastSquares()(masks, scores, weights, count)
    surrogate = fit.intercepts[:, None] + masks.double() @ fit.coefficients.mT
    residual = weights[..., None] * (scores - surrogate)
    pairs = residual.unflatten(1, (-1, 2))
    whole = pairs.square().mean((1, 2))
    odd = ((pairs[:, :, 0] - pairs[:, :, 1]) / 2).square().mean(1)
    return [
        {
            "photo": name,
            "output": output,
            "model": "efficientnet_lite0",
            "dtype": "float32",
            "samples": masks.shape[1],
            "even_share": 1 - (odd[b, t] / whole[b, t]).item(),
            "gain_of_pairs": (whole[b, t] / (2 * odd[b, t])).item(),
        }
        for b, name in enumerate(photos.names)
        for t, output in enumerate(OUTPUTS)
    ]


def table(rows: list[Row]) -> str:
    head = ["photo", *(f"{what} of the {o}" for o in OUTPUTS for what in ("even", "gain"))]
    lines = []
    for name in dict.fromkeys(row["photo"] for row in rows):
        of = [select(rows, photo=name, output=output)[0] for output in OUTPUTS]
        lines.append([name, *(f"{r[k]:.2f}" for r in of for k in ("even_share", "gain_of_pairs"))])
    return markdown(head, lines)
