"""Laws of sizes against their formulas, and what is drawn by them against the laws."""

import math
import pickle

import numpy as np
import pytest
import torch
from scipy import stats

from torchlime import explain
from torchlime.fills import Constant
from torchlime.masks import (
    Bernoulli,
    BinomialLaw,
    GlimeLaw,
    LeverageLaw,
    ShapleyLaw,
    SizeLaw,
    UniformLaw,
)
from torchlime.masks.size_law import _drawn
from torchlime.segments import Grid
from torchlime.weights import ImportanceWeights

LITERAL = {
    ShapleyLaw(): lambda n, k: (n - 1) / (k * (n - k)) if 0 < k < n else 0.0,
    LeverageLaw(): lambda n, k: float(0 < k < n),
    UniformLaw(): lambda n, k: 1.0,
    BinomialLaw(): lambda n, k: math.comb(n, k) / 2**n,
    BinomialLaw(0.8): lambda n, k: math.comb(n, k) * 0.8**k * 0.2 ** (n - k),
    GlimeLaw(): lambda n, k: math.comb(n, k) * math.exp(-((1 - math.sqrt(k / n)) ** 2) / 0.125),
    GlimeLaw(0.6, "euclidean"): lambda n, k: math.comb(n, k) * math.exp(-(n - k) / 0.72),
}
LAWS = list(LITERAL)


def shares(law, count):
    masses = np.array([LITERAL[law](count, k) for k in range(count + 1)])
    return masses / masses.sum() if masses.any() else masses


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_masses_are_their_formula(law):
    counts = [13, 1, 7, 2, 200]
    masses = law(torch.tensor(counts), 200)
    assert masses.shape == (5, 201)
    assert masses.dtype == torch.float64
    for row, count in zip(masses, counts, strict=True):
        assert (row[count + 1 :] == 0).all()
        ours = row[: count + 1].numpy()
        ours = ours / ours.sum() if ours.any() else ours
        np.testing.assert_allclose(ours, shares(law, count), rtol=1e-11, atol=1e-300)
        if count > 1:
            assert law.symmetric == np.allclose(ours, ours[::-1], rtol=1e-9, atol=0)
        assert law.proper == (ours[0] == ours[-1] == 0)
    assert eval(repr(pickle.loads(pickle.dumps(law)))) == law


def test_euclidean_weights_are_the_product_measure():
    """Notes: the Hamming kernel on fair masks is Bernoulli(q) with q = 1 / (1 + exp(−1/2σ²))."""
    count = torch.tensor([9])
    glime = GlimeLaw(0.6, "euclidean")(count, 9)
    product = BinomialLaw(1 / (1 + math.exp(-1 / 0.72)))(count, 9)
    torch.testing.assert_close(glime / glime.sum(), product, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "sampler",
    [*(SizeLaw(law, paired=False) for law in LAWS), *(SizeLaw(w) for w in LAWS if w.symmetric)],
    ids=repr,
)
def test_sizes_are_drawn_by_the_law(sampler):
    law, paired, count = sampler.law, sampler.paired, 7
    number, start = 20_000, 2 if law.proper else 0
    masks = sampler(torch.tensor([count]), 9, number + start, seed=2)[0, start:, :count]
    kept = masks.sum(1)
    independent = kept[0::2] if paired else kept
    expected = shares(law, count)
    found = np.bincount(independent.numpy(), minlength=count + 1)
    assert (found[expected == 0] == 0).all()
    expected = expected * len(independent)
    order = np.argsort(expected)
    cells = np.array([v[order] for v in (found, expected)])
    rare = max(1, (cells[1] < 5).sum()) + 1  # these are one cell with the next
    cells = np.concatenate([cells[:, :rare].sum(1, keepdims=True), cells[:, rare:]], axis=1)
    assert stats.chisquare(*cells).pvalue > 1e-3
    for size in range(1, count):
        some = masks[0::2][kept[0::2] == size]
        if len(some) > 500:  # which ones is uniform: all sets of a size
            sets = torch.unique(some, dim=0, return_counts=True)[1].numpy()
            assert len(sets) == math.comb(count, size)
            assert stats.chisquare(sets).pvalue > 1e-3
    if paired:
        assert (masks[0::2] ^ masks[1::2]).all()
    else:
        assert np.abs(np.corrcoef(kept[:-1], kept[1:])[0, 1]) < 5 / number**0.5


@pytest.mark.parametrize("law", [ShapleyLaw(), LeverageLaw()], ids=repr)
@pytest.mark.parametrize("paired", [True, False])
def test_a_proper_law_begins_with_all_and_nothing(law, paired):
    masks = SizeLaw(law, paired)(torch.tensor([5, 3, 1]), 5, 100, seed=torch.tensor([1, 2, 3]))
    assert not SizeLaw(law, paired).beside
    assert masks[:, :2].sum(2).tolist() == [[5, 0], [3, 0], [1, 0]]
    assert {*masks[1, 2:].sum(1).tolist()} == {1, 2}
    assert masks[2].sum(1).tolist() == [1, 0] * 50  # one segment has no other sets


def test_other_laws_have_the_input_beside_the_design():
    for law in (UniformLaw(), GlimeLaw(), BinomialLaw(), BinomialLaw(0.3)):
        sampler = SizeLaw(law, paired=False)
        assert sampler.beside
        starts = sampler(torch.full((2000,), 6), 6, 2, seed=torch.arange(2000))[:, 0]
        assert (~starts.all(1)).double().mean() > 0.1
    images = torch.rand(2, 3, 8, 8, generator=torch.manual_seed(0))
    found = explain(
        lambda x: x.mean((2, 3)), images, segmenter=Grid(2, 2), fill=Constant(0.0), targets=1,
        sampler=SizeLaw(UniformLaw()), num_samples=64, keep_samples=True,
    )  # fmt: skip
    found.check()
    assert torch.equal(found.masks, SizeLaw(UniformLaw())(found.segment_count, 4, 64, seed=0))
    torch.testing.assert_close(found.scores[:, 0].float(), images.mean((2, 3))[:, 1])


def test_a_binomial_draw_is_a_bernoulli_draw():
    """Frequencies of all 16 sets of 4, by both samplers."""
    count, number = torch.tensor([4]), 16_000
    place = 2 ** torch.arange(4)
    ours, theirs = (
        torch.bincount((masks[0] * place).sum(1), minlength=16)
        for masks in (
            SizeLaw(BinomialLaw(0.7), paired=False)(count, 4, number, seed=0),
            Bernoulli(0.7)(count, 4, number, seed=1, first=1),
        )
    )
    assert stats.chi2_contingency(torch.stack([ours, theirs]).numpy()).pvalue > 1e-3


def test_any_callable_is_a_law():
    def two(count, bound):
        masses = torch.zeros(len(count), bound + 1)
        masses[:, 2] = 3.0
        return masses

    masks = SizeLaw(two, paired=False)(torch.tensor([5, 4]), 5, 50, seed=0)
    assert (masks.sum(2) == 2).all()
    assert SizeLaw(two, paired=False).beside


def test_a_share_that_rounds_up_to_one_is_of_the_largest_size():
    """Float32, where the device has no float64, rounds the largest random bits up."""
    below = torch.tensor([[0.0, 0.2, 0.7, 0.7, 0.7], [0.5, 1.0, 1.0, 1.0, 1.0]])
    kept = _drawn(below, torch.tensor([[-1, 0]]).expand(2, -1))
    assert kept.tolist() == [[2, 1], [1, 0]]


def test_padding_changes_nothing():
    for sampler in (SizeLaw(), SizeLaw(GlimeLaw(), paired=False)):
        wide, tight = (sampler(torch.tensor([6]), width, 300, seed=5) for width in (6, 40))
        assert torch.equal(wide, tight[..., :6])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SizeLaw("shapley"), TypeError, r"law of sizes, such as ShapleyLaw\(\), got 'sh"),
        (lambda: SizeLaw(ShapleyLaw), TypeError, r"law of sizes, such as ShapleyLaw\(\), got <cl"),
        (lambda: SizeLaw(GlimeLaw()), ValueError, "not symmetric; pass paired=False"),
        (lambda: SizeLaw(BinomialLaw(0.4)), ValueError, "not symmetric; pass paired=False"),
        (lambda: SizeLaw(lambda c, s: None), ValueError, "not symmetric; pass paired=False"),
        (lambda: BinomialLaw(1.0), ValueError, "keep must lie strictly between 0 and 1, got 1.0"),
        (lambda: GlimeLaw(0.0), ValueError, "width must be a finite number above 0, got 0.0"),
        (lambda: GlimeLaw(distance="pixel_euclidean"), ValueError, "distance must be one of"),
        (
            lambda: SizeLaw(lambda c, s: None, paired=False)(torch.tensor([3]), 4, 9, seed=0),
            TypeError,
            r"the law must return floats \[B,S\+1\] = \[1, 5\], got NoneType",
        ),
        (
            lambda: SizeLaw(lambda c, s: torch.ones(1, s), False)(torch.tensor([3]), 4, 9, seed=0),
            ValueError,
            r"= \[1, 5\], got torch.float32 \[1, 4\]",
        ),
        (lambda: SizeLaw()(torch.tensor([3]), 4, 1, seed=0), ValueError, "num_samples must be at"),
        (lambda: SizeLaw()(torch.tensor([3]), 4, 9, seed=1.5), TypeError, "seed must be an int"),
    ],
)  # fmt: skip
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("mass", [-1.0, math.nan, math.inf])
def test_masses_that_are_no_masses(mass):
    def odd(count, bound):
        return torch.tensor([[1.0, 1.0, mass, 1.0]])

    with pytest.raises(
        ValueError, match="the masses of .*odd.* must be finite numbers of at least"
    ):
        SizeLaw(odd, paired=False)(torch.tensor([3]), 3, 9, seed=0)


def test_masses_beyond_the_count_have_no_effect():
    """A law that knows nothing of the count drew sizes that there are not."""
    count = torch.tensor([3, 5])

    def heedless(count, bound):
        return torch.ones(len(count), bound + 1)

    theirs = SizeLaw(heedless, paired=False)(count, 5, 400, seed=0)
    assert torch.equal(theirs, SizeLaw(UniformLaw(), paired=False)(count, 5, 400, seed=0))
    weights = ImportanceWeights(heedless, drawn=UniformLaw())(theirs, count)
    assert weights.allclose(torch.ones(2, 400).double())
