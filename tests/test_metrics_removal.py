"""Metrics that hide sets of segments, against literal definitions, Captum and Quantus."""

import captum.metrics
import numpy as np
import pytest
import quantus
import scipy.stats
import torch
from torch import nn

from tests import oracles
from torchlime import Lime, metrics
from torchlime.fills import Constant, ImageMean
from torchlime.masks import Bernoulli
from torchlime.metrics import removal
from torchlime.metrics._correlation import mean_ranks, pearson
from torchlime.metrics.evidence import evidence_of
from torchlime.segments import Grid

BLACK = Constant(0.0)


class Doubled(nn.Module):
    """A network of float64 for callers that know float32 only, as Quantus does."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.double())


def network(channels=1, classes=4):
    torch.manual_seed(0)
    head = nn.Linear(6 * 20, classes)
    return nn.Sequential(nn.Conv2d(channels, 6, 3), nn.Tanh(), nn.Flatten(), head).double().eval()


def images(channels=1):
    return torch.rand(
        2, channels, 7, 6, generator=torch.manual_seed(1)
    ).double()  # exact in float32


def ragged():
    """A network, two images of 3 and 7 segments, their label maps and an explanation of both."""
    rows = torch.arange(7)[:, None].expand(7, 6)
    labels = torch.stack([rows.clamp(max=4) // 2, rows])
    x, net = images(2), network(2)
    explainer = Lime(num_samples=40, sampler=Bernoulli(), fill=ImageMean(), chunk_size=17)
    return net, x, labels, explainer.explain(net, x, top=2, segments=labels, max_segments=9)


def literal(net, x, labels, e, b, t, gone):
    """Evidence and drop of each set of hidden segments, one forward pass each."""
    fill, count = ImageMean()(x, None)[b].numpy(), int(e.segment_count[b])

    def score(mask):
        pixels = oracles.perturbed_image(x[b].numpy(), fill, labels[b].numpy(), mask)
        with torch.no_grad():
            return net(torch.from_numpy(pixels)[None])[0, e.targets[b, t]].item()

    gone = gone[:, :count].numpy()
    whole = score(np.ones(count, dtype=bool))
    coefficients = e.coefficients[b, t, :count].numpy()
    return np.array([(sum(coefficients[s] for s in np.flatnonzero(row)), whole - score(~row))
                     for row in gone]).T  # fmt: skip


def test_removal_metrics_are_the_literal_ones():
    net, x, labels, e = ragged()
    evidence = evidence_of(e, x)
    size = torch.tensor([[2], [2]]).expand(-1, 30)
    sets = removal.subsets(evidence, size, 5)
    assert (sets.sum(2) == 2).all()
    assert len({tuple(row.tolist()) for row in sets[1]}) > 10
    found = metrics.sensitivity_n(net, x, e, sizes=2, num_samples=30, seed=5)
    same = metrics.faithfulness_correlation(net, x, e, size=2, num_samples=30, seed=5)
    estimate, ranked = metrics.faithfulness_estimate(net, x, e), metrics.monotonicity(net, x, e)
    assert torch.equal(found, same)
    for b in range(2):
        one = torch.eye(9, dtype=torch.bool)[: int(e.segment_count[b])]
        for t in range(2):
            sums, drops = literal(net, x, labels, e, b, t, sets[b])
            assert found[b, t].item() == pytest.approx(np.corrcoef(sums, drops)[0, 1], abs=1e-9)
            sums, drops = literal(net, x, labels, e, b, t, one)
            assert estimate[b, t].item() == pytest.approx(np.corrcoef(sums, drops)[0, 1], abs=1e-9)
            expected = scipy.stats.spearmanr(abs(sums), abs(drops)).statistic
            assert ranked[b, t].item() == pytest.approx(expected, abs=1e-9)


def hidden_sets(monkeypatch):
    """Records the sets that infidelity hides."""
    kept, own = [], removal._removed

    def recording(model, inputs, evidence, gone, extra):
        kept.append(gone)
        return own(model, inputs, evidence, gone, extra)

    monkeypatch.setattr(removal, "_removed", recording)
    return kept


def test_infidelity_is_the_literal_one(monkeypatch):
    net, x, labels, e = ragged()
    kept = hidden_sets(monkeypatch)
    found = metrics.infidelity(net, x, e, num_samples=50, hidden=0.3, seed=2)
    scaled = metrics.infidelity(net, x, e, num_samples=50, hidden=0.3, seed=2, scaled=True)
    assert kept[0].double().mean().item() == pytest.approx(0.3, abs=0.06)
    assert (scaled <= found).all()
    for b in range(2):
        for t in range(2):
            sums, drops = literal(net, x, labels, e, b, t, kept[0][b])
            assert found[b, t].item() == pytest.approx(np.mean((sums - drops) ** 2), rel=1e-9)
            best = sums @ drops / (sums @ sums)
            expected = np.mean((best * sums - drops) ** 2)
            assert scaled[b, t].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scaled", [False, True])
def test_infidelity_is_captums(monkeypatch, scaled):
    """Captum gets the same sets; a segment's coefficient is spread over its entries."""
    net, x, targets = network(2), images(2), torch.tensor([1, 3])
    labels = Grid(3, 3)(x)
    e = Lime(num_samples=60, fill=BLACK).explain(net, x, targets, segments=labels)
    kept = hidden_sets(monkeypatch)
    ours = metrics.infidelity(net, x, e, num_samples=20, seed=4, scaled=scaled)
    sizes = torch.stack([torch.bincount(m.flatten(), minlength=9) for m in labels.labels])
    spread = (e.coefficients[:, 0] / sizes / 2).gather(1, labels.labels.flatten(1)).view(2, 1, 7, 6)

    def perturb(inputs):
        each = []
        for row, own in enumerate(inputs):  # Captum repeats every image 20 times
            gone = kept[0][row // 20, row % 20].double()[labels.labels[row // 20]]
            each.append((gone.expand_as(own), own * (1 - gone)))
        return tuple(torch.stack(side) for side in zip(*each, strict=True))

    theirs = captum.metrics.infidelity(
        net, perturb, x, spread.expand_as(x), target=targets, n_perturb_samples=20, normalize=scaled
    )  # fmt: skip
    assert ours[:, 0].allclose(theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", [4, 11])
def test_faithfulness_correlation_is_quantuss(monkeypatch, size):
    """Quantus gets the same sets of pixels, through the generator that it draws from."""
    net, x, targets = network(), images(), torch.tensor([1, 3])
    heatmap = torch.randn(2, 7, 6, generator=torch.manual_seed(3)).double()
    given = metrics.Heatmap(values=heatmap, targets=targets)
    evidence = evidence_of(given, x)
    sets = removal.subsets(evidence, torch.full((2, 25), size), 7)
    order = iter(sets.transpose(0, 1).flatten(0, 1))  # run by run, image by image
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: np.flatnonzero(next(order).numpy()))
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=25, subset_size=size, perturb_baseline=0.0, normalise=False, abs=False,
        return_aggregate=False, disable_warnings=True,
    )  # fmt: skip
    theirs = metric(
        Doubled(net).eval(), x.numpy(), targets.numpy(), heatmap[:, None].numpy(), device="cpu"
    )
    ours = metrics.faithfulness_correlation(
        net, x, given, size=size, num_samples=25, fill=BLACK, seed=7
    )
    assert ours[:, 0].tolist() == pytest.approx(theirs, abs=1e-6)


def test_estimate_and_monotonicity_are_quantuss():
    """One pixel at a time on black; Quantus averages its squared change over equal fills."""
    net, x, targets = network(), images(), torch.tensor([1, 3])
    heatmap = torch.rand(2, 7, 6, generator=torch.manual_seed(3)).double()
    given = metrics.Heatmap(values=heatmap, targets=targets)
    settings = {
        "features_in_step": 1, "perturb_baseline": 0.0, "normalise": False, "abs": False,
        "return_aggregate": False, "disable_warnings": True,
    }  # fmt: skip
    batch = (Doubled(net).eval(), x.numpy(), targets.numpy(), heatmap[:, None].numpy())
    for ours, theirs in (
        (metrics.faithfulness_estimate, quantus.FaithfulnessEstimate(**settings)),
        (metrics.monotonicity, quantus.MonotonicityCorrelation(nr_samples=2, **settings)),
    ):
        found = ours(net, x, given, fill=BLACK)[:, 0].tolist()
        assert found == pytest.approx(theirs(*batch, device="cpu", softmax=False), abs=1e-6)


def test_an_exact_explanation_is_perfect_and_its_reverse_the_worst():
    """Of a linear model every drop is the sum of the coefficients."""
    x = images()
    e = Lime(segmenter=Grid(3, 3), fill=BLACK, num_samples=200).explain(lambda x: x.sum((2, 3)), x)
    exact = metrics.Heatmap(values=x[:, 0], targets=0)
    turned = metrics.Heatmap(values=-x[:, 0], targets=0)

    def model(x):
        return x.sum((2, 3))

    for metric in (metrics.sensitivity_n, metrics.faithfulness_correlation,
                   metrics.faithfulness_estimate):  # fmt: skip
        assert metric(model, x, exact, fill=BLACK).allclose(torch.ones(2, 1).double())
        assert metric(model, x, turned, fill=BLACK).allclose(-torch.ones(2, 1).double())
        assert (metric(model, x, e) > 0.999).all()
    assert metrics.infidelity(model, x, exact, fill=BLACK).abs().max() < 1e-20
    half = metrics.Heatmap(values=x[:, 0] / 2, targets=0)
    assert metrics.infidelity(model, x, half, fill=BLACK, scaled=True).abs().max() < 1e-20
    assert metrics.infidelity(model, x, half, fill=BLACK).min() > 1


def test_sizes():
    net, x, _, e = ragged()  # of 3 and 7 segments
    both = metrics.sensitivity_n(net, x, e, sizes=(1, 2), num_samples=20)
    assert both.isfinite().all()
    of_three = metrics.sensitivity_n(net, x, e, sizes=3)  # all of the first image's
    assert of_three[0].isnan().all()
    assert of_three[1].isfinite().all()
    share = metrics.sensitivity_n(net, x, e, sizes=0.3, seed=1)  # 1 and 2 segments
    assert torch.equal(share[:1], metrics.sensitivity_n(net, x, e, sizes=1, seed=1)[:1])
    assert torch.equal(share[1:], metrics.sensitivity_n(net, x, e, sizes=2, seed=1)[1:])


def test_seeds_and_batches():
    net, x, _, e = ragged()
    for metric in (metrics.infidelity, metrics.sensitivity_n):
        first = metric(net, x, e, seed=1)
        assert torch.equal(first, metric(net, x, e, seed=1))
        assert not torch.equal(first, metric(net, x, e, seed=2))
        assert metric(net, x, e, seed=torch.tensor([1, 1])).allclose(first)
        alone = [metric(net, x[b : b + 1], e[b], seed=1) for b in range(2)]
        assert torch.cat(alone).allclose(first, rtol=0, atol=1e-9)


def test_what_is_constant_or_broken_is_nan():
    x = torch.rand(3, 1, 6, 6).double()
    model = network(1)
    model[3] = nn.Linear(6 * 16, 4).double()
    heatmap = torch.rand(3, 6, 6)
    heatmap[0], heatmap[1, 2, 3] = 1.0, torch.nan
    for metric in (metrics.faithfulness_estimate, metrics.monotonicity, metrics.sensitivity_n,
                   metrics.faithfulness_correlation):  # fmt: skip
        found = metric(model, x, heatmap)[:, 0]
        assert found.isfinite().tolist() == [False, False, True]
        assert metric(lambda x: torch.ones(len(x), 1), x, heatmap).isnan().all()
    one = metrics.Heatmap(values=heatmap, segments=torch.zeros(6, 6, dtype=torch.int64))
    assert metrics.faithfulness_estimate(model, x, one).isnan().all()
    assert metrics.infidelity(model, x, heatmap)[:, 0].isfinite().tolist() == [True, False, True]
    out_of_range = metrics.Heatmap(values=heatmap, targets=torch.tensor([0, 1, 9]))
    assert metrics.infidelity(model, x, out_of_range)[2].isnan().all()


def test_bad_arguments():
    net, x, _, e = ragged()
    large = torch.rand(1, 2, 70, 70).double()
    for call, message in (
        (lambda: metrics.infidelity(net, x, e, hidden=1.0), "hidden must lie strictly between"),
        (lambda: metrics.infidelity(net, x, e, num_samples=0), "num_samples must be at least 1"),
        (lambda: metrics.sensitivity_n(net, x, e, sizes=()), "sizes must hold at least one"),
        (lambda: metrics.sensitivity_n(net, x, e, sizes=(0,)), "a size must be at least 1"),
        (lambda: metrics.sensitivity_n(net, x, e, sizes=1.5), "a size that is no int must lie"),
        (lambda: metrics.sensitivity_n(net, x, e, num_samples=1), "num_samples must be at least 2"),
        (lambda: metrics.infidelity(net, x[:1], e), "is of 2 inputs, but there are 1 images"),
        (lambda: metrics.infidelity(net, x, torch.rand(2, 3, 6)), "a heatmap of images .* got"),
        (
            lambda: metrics.faithfulness_estimate(lambda x: x.sum((2, 3)), large, large[:, 0]),
            "a heatmap without segments has 4900; pass",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="must be an Explanation, a Heatmap, or a tensor"):
        metrics.infidelity(net, x, [1.0])
    with pytest.raises(TypeError, match="seed must be an int"):
        metrics.infidelity(net, x, e, seed=0.5)


def test_correlations_are_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.integers(-3, 4, (2, 5, 12)).astype(float)
    for row, other in zip(a, b, strict=True):
        one, two = torch.from_numpy(row), torch.from_numpy(other)
        assert mean_ranks(one).numpy() + 0.5 == pytest.approx(scipy.stats.rankdata(row))
        valid = torch.arange(12) < 8
        expected = scipy.stats.pearsonr(row[:8], other[:8]).statistic
        assert pearson(one, two, valid).item() == pytest.approx(expected)
