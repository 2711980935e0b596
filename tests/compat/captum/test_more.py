"""What the drop-in gives beyond Captum: explanations, several targets, seeds, superpixels."""

import itertools

import pytest
import torch

from torchlime import Explanation
from torchlime.compat.captum import KernelShap, Lime, SkLearnLasso, SkLearnLinearRegression
from torchlime.compat.captum.drawing import (
    captums_halves,
    captums_shapley,
    each_half,
    example_seeds,
    shapley_sizes,
)
from torchlime.masks import ShapleyLaw
from torchlime.segments import Grid
from torchlime.surrogates import Ridge

pytestmark = pytest.mark.filterwarnings("ignore:You are providing multiple inputs")
IMAGES = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
CELLS = (torch.arange(12)[:, None] // 4 * 3 + torch.arange(12) // 4)[None, None]


def net():
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(400, 5)
    ).eval()


def lime(**settings):
    return Lime(net(), Ridge(0.1), seed=0, **settings)


@pytest.mark.parametrize("make", [lime, lambda: KernelShap(net(), seed=0)])
def test_an_explanation_holds_what_attribute_returns(make, tmp_path):
    arguments = {"target": [0, 4, 2], "feature_mask": CELLS, "n_samples": 80}
    found = make().attribute(IMAGES, **arguments)
    e = make().attribute(IMAGES, **arguments, return_explanation=True)
    assert isinstance(e, Explanation)
    torch.testing.assert_close(e.heatmap()[:, 0, None].expand_as(found), found)
    assert e.targets.tolist() == [[0], [4], [2]]
    outputs = net()(IMAGES).gather(1, e.targets)
    torch.testing.assert_close(e.scores, outputs.detach().double())
    assert e.fidelity.shape == e.intercepts.shape == (3, 1)
    assert bool((e.fidelity > 0.5).all())
    assert bool(e.standard_errors.isfinite().all())
    assert e.segments.shape == (3, 12, 12)
    assert e.kind.part == "segment"
    e.save(tmp_path / "e.npz")
    assert torch.equal(Explanation.load(tmp_path / "e.npz").coefficients, e.coefficients)
    assert "num_samples" in e.settings


def test_explanations_of_tuples_and_of_a_whole_batch():
    pair = torch.rand(2, 4), torch.rand(2, 2, 3)
    forward = lambda a, b: a.sum(1) + 2 * b.sum((1, 2))  # noqa: E731
    explainer = Lime(forward, Ridge(0.01), seed=0)
    e = explainer.attribute(pair, n_samples=300, return_explanation=True)
    assert [m.shape for m in e.segments] == [(2, 4), (2, 2, 3)]
    first, second = explainer.attribute(pair, n_samples=300)
    torch.testing.assert_close(first, pair[0], rtol=0.01, atol=0.01)
    torch.testing.assert_close(second, 2 * pair[1], rtol=0.01, atol=0.01)
    whole = Lime(lambda a, b: forward(a, b).sum(), Ridge(0.01), seed=0)
    one = whole.attribute(pair, n_samples=300, return_explanation=True)
    assert len(one) == 1
    torch.testing.assert_close(one.scores[0, 0], forward(*pair).sum().double())


def test_ids_of_the_caller_are_kept_in_the_explanation():
    x, mask = torch.rand(1, 3), torch.tensor([[4, 5, 5]])
    with pytest.warns(UserWarning, match="Minimum element"):
        e = Lime(lambda x: x.sum(1), Ridge(0.01), seed=0).attribute(
            x, feature_mask=mask, n_samples=50, return_explanation=True
        )
    assert e.ids.tolist() == [[4, 5]]
    assert {int(i) for i in e.top(2)[0].flatten()} == {4, 5}


@pytest.mark.parametrize("make", [lime, lambda: KernelShap(net(), seed=0)])
@pytest.mark.parametrize("batch", [1, 3])
def test_several_targets_share_the_samples(make, batch):
    targets = torch.tensor([[0, 4], [1, 2], [3, 3]])[:batch]
    x, seen = IMAGES[:batch], []
    explainer = make()
    inner = explainer.forward_func
    explainer.forward_func = lambda x: (seen.append(len(x)), inner(x))[1]
    together = explainer.attribute(x, target=targets, feature_mask=CELLS, n_samples=60)
    rows = sum(seen)
    features = make().attribute(
        x, target=targets, feature_mask=CELLS, n_samples=60, return_input_shape=False
    )
    assert together.shape == (batch, 2, *x.shape[1:])
    assert features.shape == (batch, 2, 9)
    assert rows == batch * 60 + 3  # those of the probe, or three rows alone
    for t in range(2):
        alone = make().attribute(x, target=targets[:, t], feature_mask=CELLS, n_samples=60)
        torch.testing.assert_close(together[:, t], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 64, 1000])
def test_chunks_change_nothing(k):
    found = [
        lime().attribute(IMAGES, target=1, feature_mask=CELLS, n_samples=50,
                         perturbations_per_eval=size)
        for size in (7, k)
    ]  # fmt: skip
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_an_example_does_not_depend_on_its_batch():
    seeds = torch.tensor([5, 9, 2])
    settings = {"target": 1, "feature_mask": CELLS, "n_samples": 50}
    whole = Lime(net(), Ridge(0.1), seed=seeds).attribute(IMAGES, **settings)
    for b in range(3):
        own = Lime(net(), Ridge(0.1), seed=seeds[b : b + 1])
        alone = own.attribute(IMAGES[b : b + 1], **settings)
        torch.testing.assert_close(whole[b : b + 1], alone, rtol=1e-4, atol=1e-6)
    counted = Lime(net(), Ridge(0.1), seed=5).attribute(IMAGES[:1], **settings)
    torch.testing.assert_close(counted, whole[:1], rtol=1e-4, atol=1e-6)


def test_manual_seed_decides_where_no_seed_is_given():
    def run(seed):
        torch.manual_seed(seed)
        explainer = Lime(net(), Ridge(0.1))
        torch.manual_seed(seed)
        arguments = {"target": 1, "feature_mask": CELLS, "n_samples": 30}
        return [explainer.attribute(IMAGES[:1], **arguments) for _ in range(2)]

    first, again, other = run(0), run(0), run(1)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def moments(masks):
    """Means of features, of pairs, and of the numbers kept, of masks [N,F]."""
    z = masks.double()
    pairs = torch.stack([z[:, i] * z[:, j] for i, j in itertools.combinations(range(5), 2)])
    kept = torch.stack([(z.sum(1) == k).double() for k in range(6)])
    return torch.cat([z.mean(0), pairs.mean(1), kept.mean(1)])


@pytest.mark.parametrize("kind", ["lime", "shap"])
def test_both_random_streams_have_one_distribution(kind):
    """Moments of 20 000 rows; 5 standard deviations of a mean are at most 0.018 each."""
    number = 20_000
    count = torch.tensor([5])
    torch.manual_seed(0)
    if kind == "lime":
        theirs, mine = captums_halves(number, 5), each_half(count, 5, number, seed=1)[0]
    else:
        theirs, mine = captums_shapley(number, 5), shapley_sizes(count, 5, number, seed=1)[0]
    assert float((moments(theirs) - moments(mine)).abs().max()) < 0.025
    if kind == "shap":
        masses = ShapleyLaw()(count, 5)[0]
        found = moments(mine)[-6:]
        assert float((found - masses / masses.sum()).abs().max()) < 0.018


def test_examples_have_draws_of_their_own():
    seeds = example_seeds(3, 4, torch.device("cpu"))
    masks = shapley_sizes(torch.full((4,), 6), 6, 100, seed=seeds)
    assert len({tuple(rows.flatten().tolist()) for rows in masks}) == 4
    assert masks[:, 0].all()
    assert not masks[:, 1].any()


@pytest.mark.parametrize("mask", ["slic", Grid(3, 4)], ids=str)
@pytest.mark.parametrize("own", [False, True])
def test_superpixels_are_made_on_the_device(mask, own):
    similarity = {"similarity_func": lambda *_, **__: 1.0} if own else {}
    explainer = Lime(net(), Ridge(0.1), seed=0, **similarity)
    found = explainer.attribute(IMAGES, target=1, feature_mask=mask, n_samples=60)
    assert found.shape == IMAGES.shape
    assert torch.equal(found[:, 0], found[:, 2])
    if not own:
        e = explainer.attribute(
            IMAGES, target=1, feature_mask=mask, n_samples=60, return_explanation=True
        )
        torch.testing.assert_close(e.heatmap()[:, 0], found[:, 0])


def test_superpixels_equal_the_same_map_given():
    labels = Grid(3, 4)(IMAGES).labels[:, None]
    found = [
        lime().attribute(IMAGES, target=1, feature_mask=mask, n_samples=60)
        for mask in (Grid(3, 4), labels)
    ]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("model", [Ridge(0.1), SkLearnLasso(alpha=1e-3), SkLearnLinearRegression()])
def test_more_features_than_samples(model):
    x = torch.rand(2, 3000)
    found = Lime(lambda x: x[:, :9].sum(1), model, seed=0).attribute(x, n_samples=20)
    assert found.shape == x.shape
    assert bool(found.isfinite().all())


def test_no_more_rows_are_held_than_a_chunk():
    largest = []

    def forward(x):
        largest.append(x.numel())
        return x.flatten(1).sum(1)

    Lime(forward, Ridge(0.1), seed=0).attribute(
        torch.rand(2, 3, 64, 64), feature_mask=Grid(4, 4), n_samples=500
    )
    assert max(largest) <= 64 * 3 * 64 * 64


def test_memory_that_runs_out_makes_chunks_smaller():
    def forward(x):
        if len(x) > 5:
            raise torch.OutOfMemoryError("out of memory")
        return x.sum(1)

    x = torch.rand(2, 4)
    for similarity in (None, lambda *_, **__: 1.0):
        found = [
            Lime(f, Ridge(0.1), similarity, seed=0, rng=None).attribute(x[:1], n_samples=40)
            for f in (forward, lambda x: x.sum(1))
            if torch.manual_seed(0)
        ]
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_callers_modes(around):
    expected = lime().attribute(IMAGES, target=1, feature_mask=CELLS)
    with around():
        found = lime().attribute(IMAGES, target=1, feature_mask=CELLS)
    torch.testing.assert_close(found, expected)


def test_the_callers_autocast_reaches_the_model_alone():
    seen = []
    inner = net()

    def forward(x):
        seen.append((x.dtype, torch.is_autocast_enabled("cpu")))
        return inner(x)

    with torch.autocast("cpu", torch.bfloat16):
        found = Lime(forward, Ridge(0.1), seed=0).attribute(IMAGES, target=1, feature_mask=CELLS)
    assert set(seen) == {(torch.float32, True)}
    expected = lime().attribute(IMAGES, target=1, feature_mask=CELLS)
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.01)
