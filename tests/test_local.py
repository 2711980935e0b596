"""What plugs into ``local_fit`` without touching the package: inputs, outputs and rounds."""

import itertools
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from torchlime import Explanation
from torchlime._kinds import Masks
from torchlime.black_box import Forward
from torchlime.features import Pixels, Vectors
from torchlime.fills import Constant
from torchlime.local import local_fit
from torchlime.masks import Bernoulli, Exhaustive, FixedCount, Orthogonal
from torchlime.noise import Gaussian
from torchlime.rounds import Once
from torchlime.segments import Grid
from torchlime.strategies import Features
from torchlime.surrogates import LeastSquares, Ridge
from torchlime.targets import Classes, Computed
from torchlime.weights import Exponential, Uniform, WithoutUnmasked

EXACT = {"kernel": Uniform(), "surrogate": LeastSquares()}


class Ids(Features):
    """Integer ids [B,L], a hidden one shows its baseline."""

    kind = Masks("token", "text")

    def __init__(self, ids, baselines):
        self.ids, self.baselines = ids, baselines.expand_as(ids)
        self.bound = ids.shape[1]
        self.count = torch.full((len(ids),), self.bound, device=ids.device)

    def rows(self, design, box, first):
        def make(blocks, n):
            chunk = self.ids[:1].repeat(n, 1)
            start = 0
            for texts, samples in blocks:
                kept = design[texts, samples]
                rows = torch.where(kept, self.ids[texts, None], self.baselines[texts, None])
                chunk[start : start + rows.shape[0] * rows.shape[1]] = rows.flatten(0, 1)
                start += rows.shape[0] * rows.shape[1]
            return chunk

        return make


@pytest.mark.parametrize("chunk_size", [None, 5])
def test_integer_ids_with_baselines(chunk_size):
    values = torch.tensor([0.0, 3.0, -2.0, 5.0, 1.0], dtype=torch.float64)
    model = nn.Embedding(5, 1, _weight=values[:, None].clone())
    ids, baselines = torch.tensor([[1, 2, 3], [3, 3, 0]]), torch.tensor([0, 0, 4])
    seen = []

    def total(x):
        seen.append((x.dtype, len(x)))
        return model(x).sum((1, 2))

    e = local_fit(
        total, Ids(ids, baselines), sampler=Exhaustive(), num_samples=8,
        forward=Forward(chunk_size=chunk_size), **EXACT,
    ).check()  # fmt: skip
    expected = values[ids] - values[baselines]
    assert e.coefficients[:, 0].allclose(expected, rtol=0, atol=1e-9)
    assert {dtype for dtype, _ in seen} == {torch.int64}
    assert len({rows for _, rows in seen}) == 1
    with pytest.raises(RuntimeError, match="text 1: the effective samples are fewer than the tok"):
        local_fit(total, Ids(ids, baselines), sampler=Bernoulli(), num_samples=2, **EXACT).check()


class Words(Features):
    """Texts, whose hidden words are left out."""

    kind = Masks("word", "text")

    def __init__(self, texts):
        self.words = [text.split() for text in texts]
        self.count = torch.tensor([len(words) for words in self.words])
        self.bound = max(map(len, self.words))

    def rows(self, design, box, first):
        def make(blocks, n):
            rows = [
                " ".join(itertools.compress(self.words[b], design[b, s].tolist()))
                for texts, samples in blocks
                for b in range(len(self.words))[texts]
                for s in range(design.shape[1])[samples]
            ]
            return rows + rows[-1:] * (n - len(rows))

        return make


def test_strings():
    texts = ["not a good film", "good good bad"]
    points = {"good": 2.0, "bad": -3.0, "not": -1.0}

    def model(rows):
        assert all(isinstance(row, str) for row in rows)
        sums = [sum(points.get(word, 0.0) for word in row.split()) for row in rows]
        return torch.tensor(sums, dtype=torch.float64)

    settings = {"sampler": Bernoulli(), "num_samples": 60, **EXACT}
    e = local_fit(model, Words(texts), forward=Forward(chunk_size=7), **settings).check()
    words = [e[i].as_list(Words(texts).words[i]) for i in range(2)]
    assert dict(words[0]) == pytest.approx({"not": -1.0, "a": 0.0, "good": 2.0, "film": 0.0})
    assert words[1][0][0] == "bad"
    assert e.segments is None
    assert e.scores.tolist() == [[1.0], [1.0]]


class Tokens(Ids):
    """Tokens of one text each: hidden ones are dropped, in chunks whose rows have one length."""

    def rows(self, design, box, first):
        def make(blocks, n):
            kept = torch.cat([design[block].flatten(0, 1) for block in blocks])
            order = kept.byte().argsort(dim=1, descending=True, stable=True)
            length = int(kept[0].sum())  # host-known: a sampler of one size drew them
            tokens = self.ids.expand(len(kept), -1).gather(1, order)[:, :length]
            return tokens, order[:, :length]

        return make


def test_dropped_tokens_reach_the_model_as_two_arguments():
    """A tuple becomes arguments: the tokens that are left, and their places."""
    torch.manual_seed(0)
    embedding, places = nn.Embedding(9, 6).double(), nn.Embedding(8, 6).double()
    head = nn.Linear(6, 3).double()
    lengths = []

    def model(tokens, at):
        lengths.append(tokens.shape[1])
        return head((embedding(tokens) + places(at)).mean(1))

    def half(count, bound, number, *, seed):  # every row keeps six of eight
        return FixedCount(0.25)(count, bound, number + 1, seed=seed)[:, 1:]

    ids = torch.arange(1, 9)[None]
    e = local_fit(
        model, Tokens(ids, ids), Classes("all"), sampler=half, num_samples=200, **EXACT,
        forward=Forward(chunk_size=50),
    )  # fmt: skip
    assert set(lengths) == {6}
    kept = half(torch.tensor([8]), 8, 200, seed=0)[0]
    values = head(embedding(ids) + places(torch.arange(8)))[0]  # [8,3]
    scores = kept.double() @ values.detach() / 6
    assert (e.scores - scores[0]).abs().max() < 1e-12
    # Sizes are equal, so that a coefficient is known up to what all share.
    slopes = e.coefficients[0].T
    assert ((slopes - slopes.mean(0)) - (values - values.mean(0)) / 6).abs().max() < 1e-9


class Region:
    """The mean of a class's logits over each image's own mask [B,H,W]."""

    def __init__(self, where, category):
        self.where, self.category = where.double(), category

    def reference(self, outputs, rows):
        return {"targets": torch.full((len(rows), 1), self.category, device=rows.device)}

    def __call__(self, outputs, rows, reference):
        where = self.where[rows]
        inside = (outputs["out"][:, self.category] * where).sum((1, 2))
        return (inside / where.sum((1, 2)))[:, None]


@pytest.mark.parametrize("chunk_size", [1, 4, None])
@pytest.mark.parametrize("differentiable", [False, True])
def test_a_region_per_image(chunk_size, differentiable):
    images = torch.rand(3, 1, 4, 4, dtype=torch.float64, generator=torch.manual_seed(0))
    where = torch.zeros(3, 4, 4, dtype=torch.bool)
    where[0, :2, :2] = where[1, 2:, 2:] = where[2, :2] = True
    gain = torch.ones((), dtype=torch.float64, requires_grad=True)

    def segmenter(x):  # per-pixel logits [n,2,H,W] in a mapping, as torchvision returns them
        return {"out": torch.cat([-x, x * gain], 1)}

    features = Pixels(images, Grid(2, 2)(images), Constant(0.0))
    e = local_fit(
        segmenter, features, Region(where, 1), sampler=Exhaustive(), num_samples=16, **EXACT,
        forward=Forward(chunk_size=chunk_size, differentiable=differentiable),
    ).check()  # fmt: skip
    quarter = images[:, 0].unfold(1, 2, 2).unfold(2, 2, 2).sum((3, 4)).flatten(1)  # [3,4]
    expected = torch.zeros(3, 4, dtype=torch.float64)
    expected[0, 0], expected[1, 3] = quarter[0, 0] / 4, quarter[1, 3] / 4
    expected[2, :2] = quarter[2, :2] / 8
    assert e.coefficients[:, 0].allclose(expected, rtol=0, atol=1e-9)
    assert e.targets.tolist() == [[1]] * 3
    if differentiable:
        e.coefficients.sum().backward()
        assert gain.grad.allclose(expected.sum(), rtol=0, atol=1e-9)


def test_a_function_is_told_which_input_a_row_belongs_to():
    images = torch.rand(5, 1, 2, 2, dtype=torch.float64, generator=torch.manual_seed(0))
    own = torch.arange(1.0, 6.0, dtype=torch.float64)
    features = Pixels(images, Grid(2, 2)(images), Constant(0.0))
    scores = Computed(lambda outputs, rows: outputs.sum((1, 2, 3)) * own[rows])
    for chunk_size in (1, 3, 7, None):
        e = local_fit(
            lambda x: x, features, scores, sampler=Orthogonal(), num_samples=32, **EXACT,
            forward=Forward(chunk_size=chunk_size),
        )  # fmt: skip
        expected = images.flatten(1) * own[:, None]
        assert e.coefficients[:, 0].allclose(expected, rtol=0, atol=1e-9)
        assert e.targets.tolist() == [[0]] * 5


@dataclass(frozen=True)
class UntilSure:
    """Rounds of equal size until every relative standard error is below a tolerance."""

    size: int = 32
    tolerance: float = 0.1

    def sizes(self, num_samples):
        for start in range(0, num_samples, self.size):
            yield min(self.size, num_samples - start)

    def settled(self, fit, count):
        error, signal = fit.standard_errors.square().sum(-1), fit.coefficients.square().sum(-1)
        return bool((error < self.tolerance**2 * signal).all())  # the one flag of a round


def curved(x):
    return (6 * x.mean((2, 3))).sin()


SAMPLERS = [Bernoulli(), Bernoulli(0.7)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize("chunk_size", [11, None])
def test_a_round_that_stops(sampler, chunk_size):
    images = torch.rand(3, 2, 8, 8, dtype=torch.float64, generator=torch.manual_seed(0))
    features = Pixels(images, Grid(2, 3)(images), Constant(0.0))
    settings = {
        "sampler": sampler, "kernel": Exponential(), "surrogate": Ridge(1e-6), "seed": 3,
        "forward": Forward(chunk_size=chunk_size), "keep_samples": True,
    }  # fmt: skip
    early = local_fit(
        curved, features, num_samples=4000, rounds=UntilSure(tolerance=0.3), **settings
    ).check()
    number = early.masks.shape[1]
    assert number % 32 == 0
    assert 32 < number < 4000
    once = local_fit(curved, features, num_samples=number, rounds=Once(), **settings)
    for name in ("masks", "sample_scores", "weights", "coefficients", "standard_errors", "scores"):
        ours, theirs = getattr(early, name).double(), getattr(once, name).double()
        assert ours.allclose(theirs, rtol=0, atol=1e-12), name
    assert torch.equal(early.targets, once.targets)


def test_rounds_of_noise_score_x_once():
    x = torch.rand(2, 4, dtype=torch.float64, generator=torch.manual_seed(0))
    rows = []

    def model(z):
        rows.append(len(z))
        return z.sin().sum(1)

    settings = {
        "sampler": Gaussian(), "kernel": Uniform(), "surrogate": LeastSquares(),
        "forward": Forward(pad=False), "keep_samples": True,
    }  # fmt: skip
    features = Vectors(x, 1.0)
    rounds = UntilSure(size=20, tolerance=0.1)
    early = local_fit(model, features, num_samples=2000, rounds=rounds, **settings).check()
    number = early.masks.shape[1]
    assert 20 < number < 2000
    assert sum(rows) == 2 * (number + 1)
    once = local_fit(model, features, num_samples=number, **settings)
    assert torch.equal(early.masks, once.masks)
    assert early.coefficients.allclose(once.coefficients, rtol=0, atol=1e-12)


def test_a_model_that_draws_goes_on_from_round_to_round():
    images = torch.zeros(1, 1, 2, 2)
    features = Pixels(images, Grid(2, 2)(images), Constant(0.0))
    drawn = []

    def model(x):
        drawn.append(torch.rand(len(x)))
        return drawn[-1]

    state = torch.get_rng_state()
    rounds = UntilSure(size=8, tolerance=1e-9)
    local_fit(
        model, features, sampler=Bernoulli(), num_samples=24, rounds=rounds,
        kernel=WithoutUnmasked(), surrogate=Ridge(),
    )  # fmt: skip
    assert len(torch.cat(drawn).unique()) == 24
    assert torch.equal(torch.get_rng_state(), state)


def test_designs_without_further_rows_say_so():
    images = torch.rand(1, 1, 2, 2)
    features = Pixels(images, Grid(2, 2)(images), Constant(0.0))
    rounds = UntilSure(size=16, tolerance=1e-9)
    with pytest.raises(ValueError, match="draws all its rows at once, so it cannot go on from row"):
        local_fit(
            lambda x: torch.rand(len(x)), features, sampler=Exhaustive(), num_samples=64,
            rounds=rounds, kernel=Uniform(), surrogate=Ridge(),
        )  # fmt: skip


def wrong(**changes):
    images = torch.rand(2, 1, 2, 2, generator=torch.manual_seed(0))
    features = Pixels(images, Grid(2, 2)(images), Constant(0.0))
    settings = {
        "sampler": Bernoulli(), "num_samples": 16, "kernel": Uniform(), "surrogate": Ridge(),
        "scores": Classes(0), "model": lambda x: x.flatten(1),
    }  # fmt: skip
    settings |= changes
    return local_fit(settings.pop("model"), features, settings.pop("scores"), **settings)


class Reference:
    """Scores whose reference is given."""

    def __init__(self, found, scores=lambda outputs: outputs[:, :1]):
        self.found, self.scores = found, scores

    def reference(self, outputs, rows):
        return self.found(len(rows)) if callable(self.found) else self.found

    def __call__(self, outputs, rows, reference):
        return self.scores(outputs)


def good(rows):
    return {"targets": torch.zeros(rows, 1, dtype=torch.int64)}


class Sizes(Once):
    def __init__(self, *sizes):
        object.__setattr__(self, "given", sizes)

    def sizes(self, num_samples):
        return self.given

    def settled(self, fit, count):
        return False


RETURNS = [
    ({"kernel": lambda m, c, e: torch.ones(1, 16)}, ValueError, r"= \[2, 16\], got .*\[1, 16"),
    ({"kernel": lambda m, c, e: [1.0]}, TypeError, "the kernel must return a .* got list"),
    ({"kernel": lambda m, c, e: m.all(2)}, ValueError, "the kernel must .* got torch.bool"),
    ({"surrogate": lambda *a: None}, TypeError, "the surrogate must return a Fit, got NoneType"),
    ({"surrogate": lambda *a: Ridge()(*a)._replace(coefficients=torch.ones(2, 4, 1))}, ValueError,
     r"coefficients of the surrogate's fit must be \[2, 1, 4\], got \[2, 4, 1\]"),
    ({"surrogate": lambda *a: Ridge()(*a)._replace(ok=None)}, ValueError, "ok of .* got NoneType"),
    ({"scores": Reference({})}, TypeError, 'must return a mapping with "targets", got '),
    ({"scores": Reference(torch.zeros(3))}, TypeError, 'a mapping with "targets", got Tensor'),
    ({"scores": Reference(lambda n: {"targets": torch.zeros(n, 1)})}, ValueError, "int64"),
    ({"scores": Reference(lambda n: {"targets": torch.zeros(1, 1).long()})}, ValueError, "6 rows"),
    ({"scores": Reference(good, lambda o: o[:, 0])}, ValueError, r"= \[6, 1\], got .*\[6\]"),
    ({"scores": Reference(good, lambda o: o[:, :2])}, ValueError, r"got torch.float32 \[6, 2\]"),
    ({"rounds": Sizes()}, ValueError, "sizes\\(\\) of rounds must give at least one round"),
    ({"rounds": Sizes(8, 0)}, ValueError, "a size of rounds must be at least 1, got 0"),
    ({"rounds": Sizes(8, 8), "sampler": lambda c, b, n, *, seed: Bernoulli()(c, b, n, seed=seed)},
     TypeError, "several rounds need a sampler that takes first="),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "error", "message"), RETURNS)
def test_what_strategies_return_is_checked(changes, error, message):
    calls = []

    def model(x):
        calls.append(len(x))
        return x.flatten(1)

    with pytest.raises(error, match=message):
        wrong(model=model, forward=Forward(chunk_size=6), **changes)
    if "rounds" in changes:
        assert calls == []  # before the first forward pass


def test_features_must_say_what_their_rows_are():
    class Nothing(Features):
        count, bound = torch.tensor([2]), 2

    with pytest.raises(NotImplementedError, match=r"Nothing must define rows\(\)"):
        local_fit(lambda x: x, Nothing(), sampler=Bernoulli(), num_samples=4, **EXACT)


def test_explanations_of_own_features_are_saved_and_loaded(tmp_path):
    ids = torch.tensor([[1, 2, 3]])
    e = local_fit(
        lambda x: x.double().sum(1), Ids(ids, ids * 0), sampler=Exhaustive(), num_samples=8, **EXACT
    )
    e.save(tmp_path / "e.npz")
    loaded = Explanation.load(tmp_path / "e.npz")
    assert loaded.kind == Masks("token", "text")
    assert torch.equal(loaded.coefficients, e.coefficients)
    with pytest.raises(ValueError, match="an explanation of texts has no pixels"):
        loaded.heatmap()


@pytest.mark.parametrize("sizes", [(16,), (16, 496), (40, 24)])
def test_progress_ends_at_its_total(sizes):
    calls = []
    wrong(rounds=Sizes(*sizes), forward=Forward(chunk_size=64, progress=lambda *c: calls.append(c)))
    assert calls[-1] == (2 * sum(sizes), 2 * sum(sizes))
    calls.clear()
    wrong(
        sampler=Exhaustive(), num_samples=512, forward=Forward(progress=lambda *c: calls.append(c))
    )
    assert calls[-1] == (32, 32)


def test_rounds_of_one_draw_stay_one_draw():
    features = Vectors(torch.rand(4, 3).double(), 0.1)
    settings = {"sampler": Gaussian(), "kernel": Uniform(), "surrogate": Ridge()}
    e = local_fit(
        lambda z: z.sum(1), features, num_samples=40, rounds=Sizes(16, 24), keep_samples=True,
        **settings,
    )  # fmt: skip
    assert e.masks.stride(0) == 0
    once = local_fit(lambda z: z.sum(1), features, num_samples=40, **settings)
    assert e.coefficients.allclose(once.coefficients, rtol=0, atol=1e-12)


def test_outputs_whose_rows_change_their_shape_are_the_scores_matter():
    """Dropped tokens leave logits [n,L,V] with another L for each chunk."""
    images = torch.rand(1, 1, 2, 2)
    features = Pixels(images, Grid(2, 2)(images), Constant(0.0))
    lengths = itertools.count(3)

    def model(x):
        return x.mean((1, 2, 3))[:, None, None].expand(-1, next(lengths), 5)

    scores = Computed(lambda outputs, rows: outputs.mean((1, 2)))
    e = local_fit(
        model, features, scores, sampler=Bernoulli(), num_samples=40,
        forward=Forward(chunk_size=8), **EXACT,
    )  # fmt: skip
    assert e.check().fidelity.item() > 0.999
