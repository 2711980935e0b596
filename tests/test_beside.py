"""Samplers that have the input beside their design: it is scored, and not fitted."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from torchlime import Explanation, Lime, PatchLime, explain_text, explain_tokens
from torchlime._kinds import Masks
from torchlime.features import Pixels
from torchlime.fills import SegmentMean
from torchlime.local import local_fit
from torchlime.masks import Bernoulli, Exhaustive, Orthogonal, Sizes, present
from torchlime.metrics import fidelity
from torchlime.rounds import Once
from torchlime.segments import Grid
from torchlime.surrogates import LeastSquares, Ridge
from torchlime.weights import Uniform, WithoutUnmasked

IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Drawn:
    """Random masks, none of which keeps all; rows go on."""

    factor: float = 1.0

    beside: ClassVar[bool] = True

    def __call__(self, count, bound, num_samples, *, seed, first=0):
        masks = Bernoulli()(count, bound, num_samples, seed=seed, first=first + 1)
        masks[:, :, 0] &= ~masks.all(2)
        return masks & present(count, bound)

    def variance_factor(self, bound, num_samples):
        assert bound == 6
        assert num_samples in (20, 40)
        return self.factor


@dataclass(frozen=True)
class Halves(Once):
    def sizes(self, num_samples):
        return (num_samples // 2,) * 2

    def settled(self, fit, count):
        return False


def model(x):
    return torch.stack([x.square().mean((1, 2, 3)), x.mean((1, 2, 3)).sin()], 1)


def lime(**settings):
    usual = {"sampler": Drawn(), "num_samples": 40, "segmenter": Grid(2, 3), "kernel": Uniform()}
    return Lime(**usual | settings)


@pytest.mark.parametrize("seed", [0, torch.tensor([5, 6, 7])], ids=["one draw", "own draws"])
def test_the_input_is_scored_and_not_fitted(seed):
    rows, told = [], []

    def counting(x):
        rows.append(x.clone())
        return model(x)

    e = lime(chunk_size=9).explain(
        counting, IMAGES, 1, seed=seed, keep_samples=True, progress=lambda *r: told.append(r)
    )
    assert e.check().kind == Masks(beside=True)
    assert torch.equal(torch.cat(rows)[:3], IMAGES)
    assert told[-1] == (3 * 41, 3 * 41)
    assert e.scores.allclose(model(IMAGES)[:, 1:].double(), rtol=1e-6)
    assert e.masks.shape == (3, 40, 6)
    assert e.sample_scores.shape == (3, 40, 1)
    assert not e.masks.all(2).any()
    expected = lime().sampler(e.segment_count, 6, 40, seed=seed)
    assert torch.equal(e.masks, expected)
    fit = lime().surrogate(e.masks, e.sample_scores, e.weights, e.segment_count)
    assert torch.equal(fit.coefficients, e.coefficients)
    assert torch.equal(fit.standard_errors, e.standard_errors)
    samples = lime().samples(model, IMAGES, 1, seed=seed)
    assert samples.beside
    assert torch.equal(samples.design, e.masks)
    assert torch.equal(samples.unmasked, e.scores)
    assert not lime(sampler=Bernoulli()).samples(model, IMAGES, 1).beside


def test_one_draw_stays_one_draw():
    """The input in front of an expanded design leaves it expanded, so memory does not grow."""
    count = torch.full((1,), 6).expand(1000)
    shared = Drawn()(count[:1], 6, 40, seed=0).expand(1000, -1, -1)
    rows = Masks(beside=True).rows(shared, count)
    assert rows.shape == (1000, 41, 6)
    assert rows.untyped_storage().nbytes() == 41 * 6
    assert rows[:, 0].all()
    assert torch.equal(rows[:, 1:], shared)
    assert Masks().rows(shared, count) is shared


def test_counts_below_the_bound():
    labels = torch.stack([torch.arange(64).view(8, 8) % n for n in (4, 6, 5)])
    e = lime().explain(model, IMAGES, 1, segments=labels, keep_samples=True)
    assert e.check().segment_count.tolist() == [4, 6, 5]
    assert e.scores.allclose(model(IMAGES)[:, 1:].double(), rtol=1e-6)


def test_later_rounds_have_no_input():
    features = Pixels(IMAGES, Grid(2, 3)(IMAGES), SegmentMean())
    found = [
        local_fit(
            model, features, sampler=Drawn(), num_samples=40, kernel=Uniform(), surrogate=Ridge(),
            rounds=rounds, keep_samples=True,
        )
        for rounds in (Once(), Halves())
    ]  # fmt: skip
    once, halves = found
    assert torch.equal(once.masks, halves.masks)
    assert once.sample_scores.allclose(halves.sample_scores)
    assert once.coefficients.allclose(halves.coefficients, rtol=1e-9)


def test_the_factor_of_the_design_scales_errors_and_is_kept(tmp_path):
    plain, half = (
        lime(sampler=Drawn(f)).explain(model, IMAGES, 1, keep_samples=True) for f in (1.0, 0.25)
    )
    assert (plain.variance_factor, half.variance_factor) == (1.0, 0.25)
    assert half.standard_errors.allclose(plain.standard_errors / 2, rtol=1e-12)
    assert torch.equal(half.coefficients, plain.coefficients)
    surrogate = LeastSquares()
    again = [e.refit(surrogate=surrogate).standard_errors for e in (plain, half)]
    assert again[1].allclose(again[0] / 2, rtol=1e-12)
    half.save(tmp_path / "e.npz")
    loaded = Explanation.load(tmp_path / "e.npz")
    assert loaded.variance_factor == 0.25
    assert loaded.kind == half.kind == Masks(beside=True)
    assert loaded.refit(surrogate=surrogate).standard_errors.equal(again[1])


@pytest.mark.parametrize(
    ("factor", "error"), [(-0.1, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_a_factor_that_is_none(factor, error):
    with pytest.raises(error, match=r"variance_factor\(\) of the sampler must be"):
        lime(sampler=Drawn(factor)).explain(model, IMAGES, 1)


def test_fresh_masks_are_all_counted():
    e = lime(surrogate=LeastSquares()).explain(model, IMAGES, 1)
    found = fidelity(model, IMAGES, e, seed=9)
    samples = lime().samples(model, IMAGES, 1, seed=9)
    fitted = samples.design.double() @ e.coefficients.mT + e.intercepts[:, None]
    rest = (samples.scores - fitted).square().sum(1)
    expected = 1 - rest / (samples.scores - samples.scores.mean(1, keepdim=True)).square().sum(1)
    assert found.allclose(expected, rtol=1e-6)


def test_who_has_the_input_where():
    assert Orthogonal.beside
    for sampler in (Bernoulli(), Exhaustive(), Sizes()):
        assert not getattr(sampler, "beside", False)
        kind = Masks("word", "text").drawn_by(sampler)
        assert kind == Masks("word", "text")
    assert Masks("word", "text").drawn_by(Orthogonal()) == Masks("word", "text", beside=True)


def test_all_masks_stay_exact():
    exact = lime(sampler=Exhaustive(), num_samples=64, surrogate=LeastSquares())
    e = exact.explain(model, IMAGES, 1, keep_samples=True)
    assert e.masks.shape[1] == 64
    assert e.masks[:, 0].all()
    assert torch.equal(e.sample_scores[:, 0], e.scores)


def test_a_kernel_without_the_unmasked_image_keeps_a_row_that_is_none():
    count = torch.tensor([6])
    masks = Drawn()(count, 6, 40, seed=0)
    assert torch.equal(WithoutUnmasked(Uniform())(masks, count), torch.ones(1, 40))


def test_texts_and_tokens_too():
    texts = []

    def of_words(strings):
        texts.extend(strings)
        return torch.tensor([[float("good" in s), float("bad" in s)] for s in strings])

    text = "a good film, not bad at all"
    e = explain_text(of_words, text, 0, sampler=Orthogonal(), num_samples=32)
    assert texts[0] == text
    assert len(texts) == 33
    assert text not in texts[1:]
    assert e.scores.item() == 1.0
    assert e.coefficients[0, 0].argmax() == 1

    seen = []

    def of_tokens(ids):
        seen.append(ids)
        return (ids == 3).sum(1, keepdim=True).float()

    e = explain_tokens(
        of_tokens, torch.tensor([[1, 2, 3, 4]]), 0, sampler=Orthogonal(), num_samples=16, hide=0
    )
    assert torch.cat(seen)[0].tolist() == [1, 2, 3, 4]
    assert sum(map(len, seen)) == 17
    assert e.coefficients[0, 0].argmax() == 2


def test_patches_too():
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    vit = VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3).eval()
    images = torch.rand(2, 3, 32, 32)
    explainer = PatchLime(sampler=Orthogonal(), num_samples=64)
    e = explainer.explain(vit, images, 1, keep_samples=True)
    assert e.scores.allclose(vit(images)[:, 1:2].double(), rtol=1e-5)
    assert e.masks.shape[1] == 64
    scores = explainer.scores(vit, images, e.masks, 1)
    assert scores.allclose(e.sample_scores, atol=1e-6)
