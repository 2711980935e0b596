"""Where evidence lies, against literal definitions and Quantus."""

import numpy as np
import pytest
import quantus
import torch

from tests.test_metrics_removal import ragged
from torchlime import Lime, metrics
from torchlime.metrics.placement import grown


def drawn(seed=0):
    """Heatmaps [3,7,6] without ties, with negative evidence too, and objects."""
    draw = torch.manual_seed(seed)
    inside = torch.rand(3, 7, 6, generator=draw) < torch.tensor([0.1, 0.4, 0.9])[:, None, None]
    return torch.randn(3, 7, 6, generator=draw).double(), inside


QUIET = {
    "abs": False, "normalise": False, "return_aggregate": False, "disable_warnings": True,
}  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_they_are_quantuss(seed):
    """Theirs takes the mass of negative evidence too; ours counts positive evidence alone."""
    heatmap, inside = drawn(seed)
    arrays = {"a_batch": heatmap[:, None].numpy(), "s_batch": inside[:, None].numpy()}
    batch = (None, np.zeros((3, 1, 7, 6)), np.zeros(3, dtype=int))
    hits = quantus.PointingGame(**QUIET)(*batch, **arrays)
    assert metrics.pointing_game(heatmap, inside, tolerance=0)[:, 0].tolist() == list(hits)
    ranks = quantus.RelevanceRankAccuracy(**QUIET)(*batch, **arrays)
    assert metrics.rank_inside(heatmap, inside)[:, 0].tolist() == pytest.approx(ranks, abs=1e-6)
    arrays["a_batch"] = arrays["a_batch"].clip(min=0)
    masses = quantus.RelevanceMassAccuracy(**QUIET)(*batch, **arrays)
    assert metrics.share_inside(heatmap, inside)[:, 0].tolist() == pytest.approx(masses, abs=1e-6)


def test_ranks_of_ties_are_the_mean_over_their_orders():
    heatmap = torch.tensor([[[2.0, 1.0, 1.0, 1.0, 0.0]]])
    inside = torch.tensor([[True, True, False, False, True]])
    # Three places: the first pixel, and two of three that tie, of which one lies inside.
    assert metrics.rank_inside(heatmap, inside).item() == pytest.approx((1 + 2 / 3) / 3)
    generator = np.random.default_rng(0)
    _, _, labels, e = ragged()
    inside = torch.rand(2, 7, 6, generator=torch.manual_seed(3)) < 0.4
    found = metrics.rank_inside(e, inside)
    for b in range(2):
        values = e.coefficients[b, 0, labels[b]].flatten().numpy()
        place, within = int(inside[b].sum()), inside[b].flatten().numpy()
        orders = (np.lexsort((generator.random(42), -values)) for _ in range(4000))
        mean = np.mean([within[order[:place]].mean() for order in orders])
        assert found[b, 0].item() == pytest.approx(mean, abs=0.01)


def test_a_point_hits_within_a_circle():
    heatmap = torch.zeros(1, 40, 50).double()
    heatmap[0, 10, 20] = 1.0
    for down, right, distance in ((9, 12, 15), (0, -15, 15), (-10, 12, 15.7), (16, 0, 16)):
        inside = torch.zeros(40, 50, dtype=torch.bool)
        inside[10 + down, 20 + right] = True
        assert metrics.pointing_game(heatmap, inside).item() == (distance <= 15)
        assert metrics.pointing_game(heatmap, inside, tolerance=16).item() == 1
        assert metrics.pointing_game(heatmap, inside, tolerance=0).item() == 0


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 30])
def test_objects_grow_by_circles(radius):
    pixels = torch.rand(2, 9, 14, generator=torch.manual_seed(radius)) < 0.04
    found = grown(pixels, radius)
    for b in range(2):
        for y, x in np.ndindex(9, 14):
            near = any(
                (y - p[0]) ** 2 + (x - p[1]) ** 2 <= radius**2 for p in pixels[b].nonzero().tolist()
            )
            assert found[b, y, x].item() == near


def test_a_segment_hits_by_its_share():
    """A point of the strongest segment, drawn at random."""
    x = torch.ones(1, 1, 2, 6).double()
    labels = torch.tensor([[0, 0, 0, 0, 1, 1]]).expand(2, 6)
    e = Lime(num_samples=30).explain(lambda x: x[..., :4].sum((2, 3)), x, segments=labels,
                                     max_segments=None)  # fmt: skip
    heatmap = labels[None] == 0
    inside = torch.zeros(2, 6, dtype=torch.bool)
    inside[:, :1] = True
    assert metrics.pointing_game(heatmap.double(), inside, tolerance=0).item() == 1 / 4
    same = metrics.pointing_game(e.heatmap(), inside, tolerance=0)
    assert torch.equal(metrics.pointing_game(e, inside, tolerance=0), same)


def test_explanations_and_their_heatmaps_are_placed_alike():
    net, x, _, e = ragged()
    inside = torch.rand(2, 7, 6, generator=torch.manual_seed(3)) < 0.4
    for metric in (metrics.rank_inside, metrics.pointing_game, metrics.share_inside):
        found, same = metric(e, inside), metric(e.heatmap().double(), inside)
        assert found.shape == (2, 2)
        if metric is not metrics.share_inside:  # there a segment has one coefficient, spread
            assert found.allclose(same, rtol=0, atol=1e-6)
    soft = Lime(num_samples=40).explain(net, x, segments=torch.rand(4, 7, 6))
    for metric in (metrics.rank_inside, metrics.pointing_game, metrics.share_inside):
        assert metric(soft, inside).allclose(metric(soft.heatmap(), inside), rtol=0, atol=1e-5)


def test_empty_objects_constant_and_broken_evidence():
    heatmap, inside = drawn()
    inside[0] = False
    heatmap[1, 2, 3] = torch.nan
    for metric, empty in ((metrics.rank_inside, torch.nan), (metrics.pointing_game, torch.nan),
                          (metrics.share_inside, 0.0)):  # fmt: skip
        found = metric(heatmap, inside)[:, 0]
        assert found[0].item() == pytest.approx(empty, nan_ok=True)
        assert found[1].isnan()
        assert found[2].isfinite()
    flat = torch.ones(1, 7, 6)
    share = inside[2].double().mean().item()
    for metric in (metrics.rank_inside, metrics.share_inside):
        assert metric(flat, inside[2]).item() == pytest.approx(share)
    assert metrics.share_inside(-flat, inside[2]).item() == 0


def test_bad_arguments():
    heatmap, inside = drawn()
    for call, message in (
        (lambda: metrics.pointing_game(heatmap, inside, tolerance=-1), "tolerance must be at leas"),
        (lambda: metrics.pointing_game(heatmap, inside[:2]), r"inside must be bool \[B,H,W\] or"),
        (lambda: metrics.rank_inside(heatmap, inside.float()), "inside must be bool"),
        (lambda: metrics.rank_inside(heatmap, inside.to("meta")), "inside is on meta"),
        (lambda: metrics.rank_inside(heatmap[0], inside), r"a heatmap must be \[B,H,W\] or"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="must be an Explanation, a Heatmap, or a tensor"):
        metrics.rank_inside([1], inside)
