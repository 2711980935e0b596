"""ROAD, and deletion and insertion of heatmaps, against literal definitions and Quantus."""

import dataclasses

import numpy as np
import pytest
import quantus
import torch
from quantus.functions.perturb_func import noisy_linear_imputation
from torch import nn

from tests.test_metrics_removal import Doubled, images, network, ragged
from torchlime import Lime, metrics
from torchlime.fills import Blur, Constant, SegmentMean
from torchlime.metrics._imputation import imputed
from torchlime.noise import Gaussian
from torchlime.segments import Grid
from torchlime.targets import Region, Similarity


def imputed_literally(image, hidden):
    """One dense system for each image: a hidden pixel is the weighted mean of its neighbours."""
    channels, height, width = image.shape
    places = [tuple(p) for p in np.argwhere(hidden)]
    system, known = np.zeros((len(places),) * 2), np.zeros((len(places), channels))
    for i, (y, x) in enumerate(places):
        for down, right in np.ndindex(3, 3):
            near = (y + down - 1, x + right - 1)
            if near == (y, x) or not (0 <= near[0] < height and 0 <= near[1] < width):
                continue
            weight = 1 / 6 if 1 in (down, right) else 1 / 12
            system[i, i] += weight
            if hidden[near]:
                system[i, places.index(near)] -= weight
            else:
                known[i] += weight * image[:, *near]
    filled = image.copy()
    filled[:, hidden] = np.linalg.solve(system, known).T
    return filled


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("size", [(7, 6), (1, 9), (12, 12)])
def test_imputation_is_the_literal_one_and_quantuss(share, size):
    draw = torch.manual_seed(int(100 * share))
    x = torch.rand(2, 3, *size, generator=draw).double()
    hidden = torch.rand(2, *size, generator=draw) < share
    hidden[:, 0, :2] = torch.tensor([True, False])
    found = imputed(x, hidden, 150)
    for b in range(2):
        expected = imputed_literally(x[b].numpy(), hidden[b].numpy())
        assert found[b].numpy() == pytest.approx(expected, abs=1e-9)
        at = np.flatnonzero(hidden[b].numpy().ravel())
        theirs = noisy_linear_imputation(x[b].numpy(), at, noise=0.0)
        assert found[b].numpy() == pytest.approx(theirs, abs=1e-6)


def test_imputation_of_a_large_hole_and_of_all():
    x = torch.rand(1, 1, 64, 64, generator=torch.manual_seed(0)).double()
    hidden = torch.zeros(1, 64, 64, dtype=torch.bool)
    hidden[:, 4:60, 4:60] = True
    assert imputed(x, hidden, 200).allclose(imputed(x, hidden, 2000), rtol=0, atol=1e-6)
    assert imputed(x, torch.ones_like(hidden), 20).isfinite().all()
    assert torch.equal(imputed(x, torch.zeros_like(hidden), 20), x)
    flat = torch.full_like(x, 0.3)
    assert imputed(flat, hidden, 50).allclose(flat)


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_road_is_the_literal_one(order):
    net, x, labels, e = ragged()
    shares = (30, 50, 90)
    found = metrics.road(net, x, e, percentages=shares, order=order, noise=0.1, seed=3)
    noise = Gaussian(antithetic=False)(e.segment_count, x[0].numel(), 3, seed=3)
    for b in range(2):
        count = int(e.segment_count[b])
        for t in range(2):
            ranked = sorted(range(count), key=lambda s: -e.coefficients[b, t, s].item())
            ranked = ranked if order == "morf" else ranked[::-1]
            scores = []
            for place, share in enumerate(shares):
                number = min(max(count * share // 100, 1), count - 1)
                hidden = np.isin(labels[b].numpy(), ranked[:number])
                image = imputed_literally(x[b].numpy(), hidden)
                image[:, hidden] += 0.1 * noise[b, place].view(x[b].shape).numpy()[:, hidden]
                with torch.no_grad():
                    scores.append(net(torch.from_numpy(image)[None])[0, e.targets[b, t]].item())
            assert found[b, t].item() == pytest.approx(np.mean(scores), abs=1e-6)


def test_road_is_quantuss():
    """Theirs counts correct predictions; so is the function that ours scores."""
    net, x = network(), images()
    net[3].weight.data *= 3
    targets = net(x).argmax(1)
    heatmap = torch.rand(2, 7, 6, generator=torch.manual_seed(4)).double()
    shares = [10, 30, 50, 70, 90]
    metric = quantus.ROAD(
        percentages=shares, noise=0.0, normalise=False, abs=False, return_aggregate=False,
        disable_warnings=True,
    )  # fmt: skip
    theirs = metric(
        Doubled(net).eval(), x.numpy(), targets.numpy(), heatmap[:, None].numpy(), device="cpu"
    )
    given = metrics.Heatmap(
        values=heatmap,
        targets=lambda outputs, rows: (outputs.argmax(1) == targets[rows]).to(outputs),
    )
    each = [metrics.road(net, x, given, percentages=[share], noise=0.0) for share in shares]
    assert [one.mean().item() for one in each] == pytest.approx(list(theirs.values()), abs=1e-6)
    assert 0 < sum(theirs.values()) < len(shares)


def test_a_good_order_is_better_than_its_reverse():
    x = torch.zeros(1, 1, 16, 16).double()
    x[..., 4:8, 8:12] = 1.0

    def model(x):
        return x.sum((2, 3))

    settings = {"segmenter": Grid(4, 4), "num_samples": 200, "fill": Constant(0.0)}
    e = Lime(**settings).explain(model, x)
    turned = metrics.Heatmap(values=-e.heatmap()[:, 0], segments=Grid(4, 4)(x))
    assert metrics.road(model, x, e) < metrics.road(model, x, turned)
    lerf = metrics.road(model, x, e, order="lerf")
    assert lerf > metrics.road(model, x, turned, order="lerf")
    chunked = Lime(**settings, chunk_size=3).explain(model, x)
    assert metrics.road(model, x, chunked).allclose(metrics.road(model, x, e), rtol=0, atol=1e-9)


def test_road_needs_no_fill_and_so_no_explainer():
    """An explanation from a file has no explainer."""
    net, x, _, e = ragged()
    from_a_file = dataclasses.replace(e, explainer=None)
    assert torch.equal(metrics.road(net, x, from_a_file), metrics.road(net, x, e))


def test_road_of_one_segment_and_bad_arguments():
    net, x, _, e = ragged()
    one = metrics.Heatmap(values=torch.rand(2, 7, 6), segments=torch.zeros(7, 6).long())
    assert metrics.road(net, x, one).isnan().all()
    for settings, message in (
        ({"order": "best"}, "order must be one of"),
        ({"percentages": (100,)}, "a percentage must be below 100, got 100"),
        ({"percentages": (0,)}, "a percentage must be at least 1"),
        ({"iterations": 0}, "iterations must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.road(net, x, e, **settings)
    with pytest.raises(TypeError, match="percentages must be a list of ints"):
        metrics.road(net, x, e, percentages=10)
    soft = Lime(num_samples=40).explain(net, x, segments=torch.rand(4, 7, 6), max_segments=None)
    with pytest.raises(ValueError, match="no soft segments"):
        metrics.road(net, x, soft)


# ---- deletion and insertion of heatmaps ----------------------------------------------------------


def areas(net, x, heatmap, target, steps, fill):
    """RISE's protocol, pixel by pixel: [deletion, insertion]."""
    order = sorted(range(heatmap.numel()), key=lambda p: -heatmap.flatten()[p].item())
    found = []
    for deleting in (True, False):
        scores = []
        for step in range(steps + 1):
            first = np.isin(np.arange(len(order)), order[: int(step * len(order) / steps + 0.5)])
            shown = torch.from_numpy(first != deleting).view(heatmap.shape)
            with torch.no_grad():
                scores.append(net(torch.where(shown, x, fill)[None])[0, target].item())
        found.append(np.trapezoid(scores) / steps)
    return found


@pytest.mark.parametrize("steps", [1, 4, 7, 42])
def test_areas_of_heatmaps_are_the_literal_ones(steps):
    net, x, targets = network(2), images(2), torch.tensor([1, 3])
    heatmap = torch.rand(2, 7, 6, generator=torch.manual_seed(5))
    given = metrics.Heatmap(values=heatmap, targets=targets)
    blurred = Blur(1.0)(x, None)
    deletion = metrics.deletion(net, x, given, steps=steps, fill=Constant(0.2))
    insertion = metrics.insertion(net, x, given, steps=steps, fill=Blur(1.0))
    for b in range(2):
        black = torch.full_like(x[b], 0.2)
        hidden, _ = areas(net, x[b], heatmap[b], targets[b], steps, black)
        _, shown = areas(net, x[b], heatmap[b], targets[b], steps, blurred[b])
        assert deletion[b, 0].item() == pytest.approx(hidden, abs=1e-9)
        assert insertion[b, 0].item() == pytest.approx(shown, abs=1e-9)


def test_a_heatmap_over_the_same_segments_is_the_explanation():
    net, x, labels, e = ragged()
    same = metrics.Heatmap(values=e.heatmap().double(), targets=e.targets, segments=labels)
    for metric in (metrics.deletion, metrics.insertion, metrics.infidelity, metrics.sensitivity_n,
                   metrics.faithfulness_estimate, metrics.monotonicity, metrics.road):  # fmt: skip
        settings = {} if metric is metrics.road else {"fill": Constant(0.1)}
        ours, theirs = (metric(net, x, one, **settings) for one in (e, same))
        assert ours.allclose(theirs, rtol=0, atol=1e-6), metric
    first = metrics.Heatmap(
        values=e.coefficients[:, 0, :7], targets=e.targets[:, :1], segments=labels
    )
    assert metrics.deletion(net, x, first, fill=Constant(0.1)).allclose(
        metrics.deletion(net, x, e, fill=Constant(0.1))[:, :1]
    )
    pixels = torch.rand(2, 7, 6).double()
    summed = metrics.Heatmap(values=pixels, segments=labels, pooled="sum")
    sizes = torch.stack([torch.bincount(m.flatten(), minlength=7) for m in labels])
    by_hand = torch.stack([
        torch.bincount(m.flatten(), weights=p.flatten(), minlength=7)
        for m, p in zip(labels, pixels, strict=True)
    ])  # fmt: skip
    for pooled, expected in ((summed, by_hand), (None, by_hand / sizes.clamp(min=1))):
        used = pooled or metrics.Heatmap(values=pixels, segments=labels)
        given = metrics.Heatmap(values=expected, segments=labels)
        assert metrics.infidelity(net, x, used).allclose(metrics.infidelity(net, x, given))


def test_plain_tensors_and_arrays_are_of_the_best_class():
    net, x = network(2), images(2)
    heatmap = torch.rand(2, 7, 6)
    best = metrics.deletion(net, x, metrics.Heatmap(values=heatmap, targets=net(x).argmax(1)))
    for given in (heatmap, heatmap[:, None], heatmap.numpy()):
        assert torch.equal(metrics.deletion(net, x, given), best)


@pytest.mark.parametrize("metric", [
    metrics.deletion, metrics.insertion, metrics.infidelity, metrics.sensitivity_n,
    metrics.faithfulness_estimate, metrics.monotonicity, metrics.road,
])  # fmt: skip
def test_scores_that_the_unmasked_image_fixes(metric):
    """The image's own embedding, and the best class of its region, are those of the whole image."""
    net, x = network(2), images(2)
    settings = {"segmenter": Grid(2, 3), "num_samples": 60, "fill": Constant(0.4)}
    own = net(x).detach()

    def cosine(outputs, rows):
        return nn.functional.cosine_similarity(outputs, own[rows])

    def pixels(x):  # a class for each pixel
        return torch.stack([x[:, 0], x[:, 1], x[:, 0] * x[:, 1]], dim=1)

    masks = torch.rand(2, 7, 6, generator=torch.manual_seed(2)) < 0.5
    e = Lime(**settings).explain(pixels, x, Region(masks))

    def inside(outputs, rows):
        best = outputs[torch.arange(len(rows)), e.targets[rows, 0]]
        return (best * masks[rows]).sum((1, 2)) / masks.sum((1, 2))[rows]

    for model, scores, function in ((net, Similarity(), cosine), (pixels, Region(masks), inside)):
        ours = metric(model, x, Lime(**settings).explain(model, x, scores))
        same = metric(model, x, Lime(**settings).explain(model, x, function))
        assert ours.isfinite().all()
        assert ours.allclose(same, rtol=0, atol=1e-9)


def test_bad_heatmaps():
    net, x = network(2), images(2)
    for given, message in (
        (torch.rand(2, 2, 7, 6), "of 2 targets, and 1 are scored; pass Heatmap"),
        (torch.rand(2, 6, 7), r"must be \[2, 7, 6\], or with T targets .*, got \[2, 6, 7\]; sum"),
        (torch.rand(1, 7, 6), r"must be \[2, 7, 6\]"),
        (torch.rand(2, 7, 6, device="meta"), "the heatmap is on meta"),
        (metrics.Heatmap(values=torch.rand(2, 5), segments=torch.zeros(7, 6).long()), "are 5 coef"),
        (metrics.Heatmap(values=torch.rand(2, 7, 6), segments=torch.rand(3, 7, 6)), "soft segment"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.deletion(net, x, given)
    with pytest.raises(ValueError, match=r"SegmentMean\(\) hides nothing"):
        metrics.deletion(net, x, torch.rand(2, 7, 6), fill=SegmentMean())
    with pytest.raises(ValueError, match="pooled must be one of"):
        metrics.Heatmap(values=torch.rand(2, 7, 6), pooled="max")
    with pytest.raises(ValueError, match="steps must be at least 1"):
        metrics.deletion(net, x, torch.rand(2, 7, 6), steps=0)
    with pytest.raises(ValueError, match="a heatmap belongs to one input with pixels"):
        metrics.deletion(lambda a, b: a.sum((2, 3)), (x, x), torch.rand(2, 7, 6))
