"""Metrics that explain again: max-sensitivity, randomised weights; and the table of all metrics."""

import captum.metrics
import numpy as np
import pytest
import scipy.stats
import torch
from skimage.metrics import structural_similarity
from torch import nn

from tests.test_metrics_removal import images, network, ragged
from torchlime import Lime, metrics
from torchlime.fills import Constant
from torchlime.metrics._ssim import ssim
from torchlime.metrics.randomisation import redrawn, seed_of
from torchlime.metrics.robustness import noise_like
from torchlime.segments import Grid

SETTINGS = {"segmenter": Grid(2, 3), "num_samples": 60, "fill": Constant(0.0)}


def gradients(net, targets):
    """images → gradient times image, summed over channels: [B,H,W]."""

    def explain(x):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            scores = net(x).gather(1, targets[:, None]).sum()
        return (torch.autograd.grad(scores, x)[0] * x).sum(1)

    return explain


def test_max_sensitivity_is_captums():
    """Captum gets the same noise, and measures a heatmap of gradients."""
    net, x, targets = network(2), images(2), torch.tensor([1, 3])
    explain = gradients(net, targets)
    noise = [0.1 * noise_like(x, 6, sample) for sample in range(8)]
    assert all((one >= -0.1).all() and (one <= 0.1).all() for one in noise)
    assert torch.cat(noise).mean().abs() < 0.01
    ours = metrics.max_sensitivity(
        net, x, explain(x), radius=0.1, num_samples=8, explain=explain, seed=6
    )
    place = iter(range(8))

    def perturb(inputs):
        return (inputs + noise[next(place)],)

    theirs = captum.metrics.sensitivity_max(
        lambda inputs: (explain(inputs[0]),),
        x,
        perturb_func=perturb,
        n_perturb_samples=8,
        max_examples_per_batch=2,
    )
    assert ours[:, 0].allclose(theirs, rtol=1e-6, atol=0)


def test_max_sensitivity_of_explanations_is_the_literal_one():
    net, x, labels, e = ragged()
    found = metrics.max_sensitivity(net, x, e, radius=0.05, num_samples=3, seed=2)
    largest = torch.zeros(2, 2).double()
    for sample in range(3):
        moved = x + 0.05 * noise_like(x, 2, sample)
        again = e.explainer.explain(net, moved, e.targets, segments=labels, max_segments=9)
        change = (again.coefficients - e.coefficients).norm(dim=2) / e.coefficients.norm(dim=2)
        largest = largest.maximum(change)
    assert found.allclose(largest, rtol=0, atol=1e-9)
    assert (metrics.max_sensitivity(net, x, e, radius=0.001) < found).all()

    def explain(x):
        return e.explainer.explain(net, x, e.targets, segments=labels, max_segments=9)

    same = metrics.max_sensitivity(net, x, e, radius=0.05, num_samples=3, seed=2, explain=explain)
    assert torch.equal(found, same)


def test_constant_evidence_is_stable_and_none_is_nan():
    x = images(2)
    flat = torch.ones(2, 7, 6)
    net = network(2)
    assert (metrics.max_sensitivity(net, x, flat, explain=lambda x: flat) == 0).all()
    assert metrics.max_sensitivity(net, x, 0 * flat, explain=lambda x: flat).isnan().all()


# ---- randomised weights --------------------------------------------------------------------------


def state(net):
    return {name: values.clone() for name, values in net.state_dict().items()}


def same_state(net, before):
    return all(torch.equal(values, before[name]) for name, values in net.state_dict().items())


@pytest.mark.parametrize("similarity", ["rank", "absolute rank"])
def test_cascading_randomisation_is_the_literal_one(similarity):
    net, x, labels, e = ragged()
    before = state(net)
    found = metrics.randomisation(net, x, e, seed=4, similarity=similarity)
    assert same_state(net, before)
    assert found.layers == ("3", "0")
    assert found.similarity.shape == (2, 2, 2)
    cascade = ([(net[3].weight, 1), (net[3].bias, 2)], [(net[0].weight, 3), (net[0].bias, 4)])
    for place, parameters in enumerate(cascade):
        with torch.no_grad():
            for parameter, number in parameters:
                parameter.copy_(redrawn(parameter, seed_of(4, number)))
        again = e.explainer.explain(net, x, e.targets, segments=labels, max_segments=9)
        for b in range(2):
            for t in range(2):
                count = int(e.segment_count[b])
                one, two = (r.coefficients[b, t, :count].numpy() for r in (e, again))
                if similarity == "absolute rank":
                    one, two = abs(one), abs(two)
                expected = scipy.stats.spearmanr(one, two).statistic
                assert found.similarity[place, b, t].item() == pytest.approx(expected, abs=1e-9)
    net.load_state_dict(before)


def test_evidence_that_ignores_the_model_stays_alike():
    net, x, targets = network(2), images(2), torch.tensor([1, 3])
    edges = x.diff(dim=3, append=x[..., -1:]).abs().sum(1)
    for similarity in ("rank", "ssim"):
        found = metrics.randomisation(net, x, edges, explain=lambda x: edges, similarity=similarity)
        assert found.similarity.allclose(torch.ones(2, 2, 1).double())
    explain = gradients(net, targets)
    found = metrics.randomisation(net, x, explain(x), explain=explain)
    assert (found.similarity < 0.9).all()


def test_layers_by_name():
    torch.manual_seed(0)
    net = nn.ModuleDict({"body": nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3)),
                         "head": nn.Linear(18, 4)})  # fmt: skip

    def model(x):
        return net["head"](net["body"](x).flatten(1))

    x = images(2).float()
    e = Lime(**SETTINGS).explain(model, x)
    before = state(net)
    found = metrics.randomisation(model, x, e, layers=["head", "body"])
    assert found.layers == ("head", "body")
    assert found.similarity.shape == (2, 2, 1)
    every = metrics.randomisation(model, x, e)
    assert every.layers == ("head", "body.1", "body.0")
    assert torch.equal(every.similarity[:1], found.similarity[:1])
    assert same_state(net, before)


def test_weights_come_back_when_something_raises():
    net, x, _, e = ragged()
    before = state(net)
    calls = []

    def failing(images):
        calls.append(same_state(net, before))
        raise RuntimeError("no heatmap today")

    with pytest.raises(RuntimeError, match="no heatmap today"):
        metrics.randomisation(net, x, e, explain=failing)
    assert calls == [False]
    assert same_state(net, before)

    def failing_draw(parameter, seed):
        parameter.data.zero_()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        metrics.randomisation(net, x, e, draw=failing_draw)
    assert same_state(net, before)
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_the_callers_autocast_keeps_no_old_weights():
    """Autocast caches casts of the weights until the caller leaves it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(42, 30), nn.Tanh(), nn.Linear(30, 4))
    x = images().float()
    with torch.autocast("cpu", torch.bfloat16):
        before = net(x)
        e = Lime(**SETTINGS).explain(net, x, 0)
        found = metrics.randomisation(net, x, e)
        assert (found.similarity[-1] < 0.9).all()
        assert torch.equal(net(x), before)


def test_tied_weights_are_drawn_once():
    torch.manual_seed(0)
    shared = nn.Linear(42, 42)
    net = nn.Sequential(nn.Flatten(), shared, nn.Tanh(), nn.Linear(42, 42))
    net[3].weight = shared.weight
    drawn = []

    def draw(parameter, seed):
        drawn.append(parameter.shape)
        return redrawn(parameter, seed)

    x, before = images().float(), state(net)
    metrics.randomisation(net, x, Lime(**SETTINGS).explain(net, x), draw=draw)
    assert len(drawn) == 3
    assert same_state(net, before)


@pytest.mark.parametrize("size", [(11, 11), (16, 20)])
def test_ssim_is_scikit_images(size):
    one, two = np.random.default_rng(0).normal(size=(2, *size))
    expected = structural_similarity(
        one, two, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2.0
    )
    found = ssim(*(torch.from_numpy(side)[None, None] for side in (one, two)))
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_bad_arguments():
    net, x, _, e = ragged()
    heatmap = torch.rand(2, 7, 6)
    before = state(net)
    for call, message in (
        (lambda: metrics.max_sensitivity(net, x, heatmap), "not known; pass explain="),
        (lambda: metrics.max_sensitivity(net, x, e, radius=0), "radius must be a finite number"),
        (
            lambda: metrics.max_sensitivity(net, x, heatmap, explain=lambda x: heatmap[:1]),
            "explain returned evidence of shape",
        ),
        (lambda: metrics.randomisation(net, x, e, similarity="cosine"), "similarity must be one"),
        (lambda: metrics.randomisation(net, x, e, layers=["9"]), r"has no layers \['9'\]; it has"),
        (lambda: metrics.randomisation(net, x, e, layers=["1"]), r"no parameters .* in \['1'\]"),
        (lambda: metrics.randomisation(net, x, e, layers=[]), "no parameters to randomise"),
        (
            lambda: metrics.randomisation(net, x, heatmap, explain=lambda x: heatmap[:, :3]),
            "explain returned evidence of shape",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for call, message in (
        (lambda: metrics.randomisation(torch.sum, x, e), "randomisation needs a network"),
        (lambda: metrics.randomisation(net, x, e, layers="3"), "must be a list of names"),
        (lambda: metrics.randomisation(net, x, e, seed=torch.tensor(0)), "seed must be an int"),
    ):
        with pytest.raises(TypeError, match=message):
            call()
    assert same_state(net, before)
    own = e.explainer.explain(net, x, segments=Grid(2, 3)(x), seed=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="a seed for each image, which is not kept; pass explain="):
        metrics.max_sensitivity(net, x, own)


# ---- the table -----------------------------------------------------------------------------------


def test_compare_is_each_metric_by_itself():
    net, x, _, e = ragged()
    inside = torch.rand(7, 6) < 0.5
    heatmap = torch.rand(2, 2, 7, 6)
    table = metrics.compare({"lime": e, "map": heatmap}, net, x, inside=inside, num_samples=20)
    assert list(table.values) == ["lime", "map"]
    assert len(table.metrics) == 12
    black = {"fill": metrics.comparison.ImageMean()}
    given = metrics.Heatmap(
        values=heatmap, targets=e.targets, segments=metrics._shared.segments_of(e)
    )
    for who, evidence in (("lime", e), ("map", given)):
        values = table.values[who]
        assert torch.equal(values["deletion"], metrics.deletion(net, x, evidence, **black))
        drawn = metrics.sensitivity_n(net, x, evidence, num_samples=20, **black)
        assert torch.equal(values["sensitivity_n"], drawn)
        lerf = metrics.road(net, x, evidence, order="lerf")
        assert torch.equal(values["road_lerf"], lerf)
        assert torch.equal(values["pointing_game"], metrics.pointing_game(evidence, inside))
    records = table.records()
    assert len(records) == 2 * 12 * 2 * 2
    for record in records[::7]:
        value = table.values[record["explanation"]][record["metric"]]
        value = value[record["image"], record["target"]].item()
        assert record["value"] == pytest.approx(value, nan_ok=True)
    means = [
        [values[m].nanmean().item() for m in table.metrics] for values in table.values.values()
    ]
    assert table.means().tolist() == pytest.approx(np.array(means))


def test_the_table_is_readable():
    net, x, _, e = ragged()
    own = {"deletion": metrics.deletion, "half": lambda *_: torch.tensor([[0.25, torch.nan]])}
    lines = repr(metrics.compare({"lime": e, "noise": -e.heatmap()}, net, x, metrics=own)).split(
        "\n"
    )
    assert lines[0].split() == ["lime", "noise"]
    assert lines[1].split()[:2] == ["deletion", "↓"]
    assert lines[2].split() == ["half", "0.25", "0.25"]
    assert len({len(line) for line in lines}) == 1


def test_heatmaps_alone_are_measured_on_a_grid():
    net, x = network(2), images(2)
    heatmap = torch.rand(2, 7, 6)
    table = metrics.compare({"map": heatmap}, net, x, metrics=["deletion"])
    given = metrics.Heatmap(values=heatmap, targets=net(x).argmax(1), segments=Grid(7, 6)(x))
    expected = metrics.deletion(net, x, given)
    assert torch.equal(table.values["map"]["deletion"], expected)


def test_soft_segments_and_several_inputs_have_no_road():
    net, x = network(2), images(2)
    soft = Lime(num_samples=40).explain(net, x, segments=torch.rand(4, 7, 6))
    table = metrics.compare({"soft": soft}, net, x, num_samples=9)
    assert len(table.metrics) == 7
    assert table.means().isfinite().all()

    def both(a, b):
        return (a + b).sum((2, 3))

    pair = Lime(**SETTINGS).explain(both, (x, x))
    table = metrics.compare({"pair": pair}, both, (x, x), num_samples=9, blurred=Constant(0.1))
    assert len(table.metrics) == 7
    assert table.means().isfinite().all()


def test_bad_tables():
    net, x, _, e = ragged()
    for call, error, message in (
        (lambda: metrics.compare(e, net, x), TypeError, "explanations must be a dict such as"),
        (lambda: metrics.compare({}, net, x), TypeError, "explanations must be a dict such as"),
        (lambda: metrics.compare({"a": 3}, net, x), TypeError, "a: the explanation must be"),
        (lambda: metrics.compare({"a": e}, net, x, metrics="road"), TypeError, "a list of names"),
        (lambda: metrics.compare({"a": e}, net, x, metrics=["x"]), ValueError, "are .*, got 'x'"),
        (
            lambda: metrics.compare({"a": e}, net, x, metrics=["rank_inside"]),
            ValueError, "'rank_inside' needs inside=",
        ),
        (lambda: metrics.compare({"a": e}, net, x, metrics=[]), ValueError, "at least one metric"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()


# ---- heatmaps beside explanations ----------------------------------------------------------------


def test_rank_correlation_of_heatmaps_is_scipys():
    *_, e = ragged()
    one, two = torch.randn(2, 2, 2, 7, 6, generator=torch.manual_seed(0)).round(decimals=1)
    found = metrics.rank_correlation([e, one, metrics.Heatmap(values=two)])
    for b in range(2):
        for t in range(2):
            rows = [side[b, t].flatten().numpy() for side in (e.heatmap(), one, two)]
            pairs = [scipy.stats.spearmanr(rows[i], rows[j]).statistic
                     for i, j in ((0, 1), (0, 2), (1, 2))]  # fmt: skip
            assert found[b, t].item() == pytest.approx(np.mean(pairs), abs=1e-6)
    assert metrics.rank_correlation([one, torch.ones_like(one)]).isnan().all()
    one[0, 0, 1, 1] = torch.nan
    assert metrics.rank_correlation([one, two]).isnan().tolist() == [[True, False], [False, False]]
    for wrong in ([one], [one, two[:1]], [e, one[:, :1]]):
        with pytest.raises(ValueError, match="two or more of the same images and targets"):
            metrics.rank_correlation(wrong)
