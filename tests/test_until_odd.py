"""``rounds.Until`` and ``resume`` in odd combinations, held against fixed numbers of rows."""

import dataclasses
import warnings

import pytest
import torch
from torchvision.models import VisionTransformer

from tests.test_until import MODEL, assert_alike, images_of, lime, net_of, texts_model
from torchlime import (
    Background,
    Explanation,
    PatchLime,
    TableLime,
    TextLime,
    TokenLime,
    VectorLime,
    metrics,
)
from torchlime.fills import Constant
from torchlime.fit import Fit
from torchlime.masks import Bernoulli, Exhaustive, Orthogonal, Permutations, Sizes
from torchlime.rounds import Once, Until
from torchlime.segments import Grid
from torchlime.surrogates import Lasso, LeastSquares, MarginalContributions, Ridge
from torchlime.weights import Uniform

NUMBERS = ("coefficients", "standard_errors", "intercepts", "fidelity", "effective_samples")


def fixed(explainer, image, rows, model=MODEL, **call):
    once = dataclasses.replace(explainer, rounds=Once(), num_samples=rows)
    return once.explain(model, image, keep_samples=True, **call)


def assert_each_is_fixed(explainer, found, images, **call):
    """Each image has the numbers of a call with as many rows, and not all have the same."""
    assert len(found.samples_used.unique()) > 1
    for b, rows in enumerate(found.samples_used.tolist()):
        one = fixed(explainer, images[b : b + 1], rows, **call)
        for name in NUMBERS:
            ours, theirs = getattr(found, name)[b], getattr(one, name)[0]
            assert ours.allclose(theirs, rtol=1e-9, atol=1e-12, equal_nan=True), name


# ---- other numbers of rows for each image ----------------------------------------------------


def unweighted(masks, scores, weights, count):
    """A caller's own surrogate, which heeds no weights."""
    return LeastSquares()(masks, scores, torch.ones_like(weights), count)


def by_share(masks, count, energy=None):
    """A caller's own kernel, which compares rows: a row's weight is its share of all."""
    kept = masks.double().sum(2) + 1
    return kept / kept.sum(1, keepdim=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": Permutations(), "surrogate": MarginalContributions()},
        {"surrogate": unweighted},
        {"kernel": by_share},
        {"kernel": by_share, "sampler": Orthogonal()},
    ],
    ids=["walks", "unweighted", "by share", "by share, orthogonal"],
)
def test_no_image_is_fitted_to_the_rows_of_others(changes):
    images = images_of(5)
    explainer = lime(rounds=Until(error=0.15, most=600), **changes)
    found = explainer.explain(MODEL, images, keep_samples=True)
    assert_each_is_fixed(explainer, found, images)
    weights = found.weights
    assert all(weights[b, n:].eq(0).all() for b, n in enumerate(found.samples_used.tolist()))
    again = found.refit()
    assert_alike(again, found, (*NUMBERS, "weights"))
    for other in ({"surrogate": unweighted}, {"kernel": by_share}, {"kernel": Uniform()}):
        refitted = found.refit(**other)
        assert_each_is_fixed(dataclasses.replace(explainer, **other), refitted, images)


def test_interactions_are_of_the_rows_that_each_image_took():
    images = images_of(4)
    explainer = lime(rounds=Until(error=0.15, most=600), sampler=Orthogonal())
    found = explainer.explain(MODEL, images, keep_samples=True)
    assert len(found.samples_used.unique()) > 1
    for surrogate in (None, unweighted):
        many = found.interactions(surrogate=surrogate)
        for b, rows in enumerate(found.samples_used.tolist()):
            one = fixed(explainer, images[b : b + 1], rows).interactions(surrogate=surrogate)
            for name in ("coefficients", "standard_errors", "linear", "fidelity", "ok"):
                ours, theirs = getattr(many, name)[b].double(), getattr(one, name)[0].double()
                assert ours.allclose(theirs, rtol=0, atol=1e-9), name


@pytest.mark.parametrize("surrogate", [Lasso(alpha=0.01), Ridge(errors=False)], ids=repr)
def test_samples_by_need_can_be_refitted_without_errors(surrogate):
    """Then no rule can stop; the explainer takes as many rows as the hardest image did."""
    images = images_of(4)
    explainer = lime(rounds=Until(error=0.15, most=600))
    found = explainer.explain(MODEL, images, keep_samples=True)
    again = found.refit(surrogate=surrogate)
    assert_each_is_fixed(again.explainer, again, images)
    assert again.explainer.rounds == Once()
    assert again.explainer.num_samples == found.samples_used.max()
    assert again.settings["rounds"] == repr(explainer.rounds)  # the samples were drawn by this rule
    assert found.refit(surrogate=LeastSquares()).explainer.rounds == explainer.rounds


@dataclasses.dataclass
class Nearest:
    """A caller's own kernel, which uses only rows that keep four of five segments."""

    by_row: bool

    def __call__(self, masks, count, energy=None):
        return (masks.sum(2) >= 0.8 * count[:, None]).double()


def test_rows_without_weight_do_not_spoil_the_rounds_after_them():
    """The first rows of a seed may all have a weight of 0."""
    images, seeds = images_of(4), torch.arange(4)
    explainer = lime(sampler=Orthogonal(), rounds=Until(error=0.4, most=1500))
    grown, whole = (
        dataclasses.replace(explainer, kernel=Nearest(by_row)).explain(MODEL, images, 0, seed=seeds)
        for by_row in (True, False)
    )
    assert_alike(grown, whole, (*NUMBERS, "samples_used"))
    assert whole.sure.any()


def test_odd_numbers_of_rows_of_a_design_in_pairs():
    """The last row of one image is alone, although the design has its partner."""
    images = images_of(4)
    explainer = lime(sampler=Orthogonal(), rounds=Until(error=0.1))
    kept = explainer.explain(MODEL, images, keep_samples=True)
    more = dataclasses.replace(explainer, rounds=Once(), num_samples=51)
    found = more.explain(MODEL, images, keep_samples=True, resume=kept)
    assert torch.equal(found.samples_used, kept.samples_used + 51)
    assert_each_is_fixed(explainer, found, images)


def test_odd_numbers_of_noise_in_pairs_are_refused_for_some_inputs():
    """The last row of an odd number is 0, but others have its partner."""
    x = torch.rand(3, 5, dtype=torch.float64, generator=torch.manual_seed(0))
    explainer, net = VectorLime(scale=0.5, rounds=Until(error=0.02)), net_of(3, 5)
    kept = explainer.explain(net, x, 0, keep_samples=True)
    fewest, most = kept.samples_used.aminmax()
    assert fewest < most
    odd, even = (
        dataclasses.replace(explainer, rounds=Once(), num_samples=number) for number in (7, 8)
    )
    with pytest.raises(ValueError, match=f"an input would have {fewest + 7} rows.* an even one"):
        odd.explain(net, x, 0, resume=kept)
    calls = [(even, slice(None)), *((odd, slice(b, b + 1)) for b in range(3))]
    for more, some in calls:
        found = more.explain(net, x[some], 0, resume=kept[some])
        for b, rows in enumerate(found.samples_used.tolist()):
            one = fixed(explainer, x[some][b : b + 1], rows, net, targets=0)
            for name in NUMBERS:
                ours, theirs = getattr(found, name)[b], getattr(one, name)[0]
                assert ours.allclose(theirs, rtol=1e-9, atol=1e-12), name


def test_gradients_flow_where_images_took_different_numbers():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)
    ).double()
    with torch.no_grad():
        net[1].weight.mul_(8)
    images, explainer = images_of(4), lime(sampler=Orthogonal(), rounds=Until(error=0.1))

    def gradients(explanation):
        loss = explanation.coefficients.square().sum() + explanation.fidelity.sum()
        return torch.autograd.grad(loss, list(net.parameters()))

    found = explainer.explain(net, images, 0, differentiable=True)
    assert len(found.samples_used.unique()) > 1
    assert not found.standard_errors.requires_grad
    ones = [
        gradients(
            dataclasses.replace(explainer, rounds=Once(), num_samples=rows).explain(
                net, images[b : b + 1], 0, differentiable=True
            )
        )
        for b, rows in enumerate(found.samples_used.tolist())
    ]
    for ours, theirs in zip(gradients(found), zip(*ones, strict=True), strict=True):
        assert ours.allclose(sum(theirs), rtol=1e-9, atol=1e-12)


# ---- the strongest of few --------------------------------------------------------------------


def test_columns_beyond_the_count_are_no_rivals():
    """An image of fewer segments than ``top`` takes as many rows as alone."""
    images = images_of(3)
    labels = torch.stack([torch.arange(64).view(8, 8) % n for n in (3, 8, 2)])
    explainer = lime(rounds=Until(top=3, most=2000), sampler=Orthogonal())
    found = explainer.explain(MODEL, images, segments=labels)
    assert found.samples_used[[0, 2]].tolist() == [64, 64]
    assert found.samples_used[1] > 64
    unsure = Fit(
        torch.tensor([[[0.5, 0.01, 0.0]]]), torch.zeros(1, 1), torch.zeros(1, 1),
        torch.tensor([[[0.1, 0.3, 0.0]]]), torch.ones(1, dtype=torch.bool),
    )  # fmt: skip
    assert Until(top=2).sure(unsure, 64).all()
    assert not Until(top=1, slack=0.1).sure(unsure, 64).any()
    lost = unsure._replace(standard_errors=torch.full((1, 1, 3), torch.nan))
    assert not Until(top=2).sure(lost, 64).any()


# ---- going on from what is too little, or of others ------------------------------------------


@pytest.mark.parametrize("rows", range(2, 18, 3))
@pytest.mark.parametrize("more", [2, 7, 30])
def test_going_on_is_one_longer_call_or_refused(rows, more):
    """A design that is cut short below 3/4 of a block of 16 is no beginning of a longer one."""
    images = images_of(2)
    kept, longer = (
        lime(sampler=Orthogonal(), num_samples=n).explain(MODEL, images, 0, keep_samples=True)
        for n in (rows, rows + more)
    )
    explainer = lime(sampler=Orthogonal(), num_samples=more)
    if rows < 12:
        with pytest.raises(ValueError, match=f"resume has {rows} rows, which are so few"):
            explainer.explain(MODEL, images, 0, resume=kept)
        by_need = dataclasses.replace(explainer, rounds=Until(error=0.3))
        with pytest.raises(ValueError, match=f"resume has {rows} rows, which are so few"):
            by_need.explain(MODEL, images, 0, resume=kept)
    else:
        assert_alike(explainer.explain(MODEL, images, 0, keep_samples=True, resume=kept), longer)


def test_no_look_before_the_first():
    images = images_of(2)
    kept = lime(sampler=Orthogonal(), num_samples=32).explain(MODEL, images, keep_samples=True)
    rule = lime(sampler=Orthogonal(), rounds=Until(error=5.0))
    found = rule.explain(MODEL, images, keep_samples=True, resume=kept)
    assert found.samples_used.tolist() == [64, 64]
    assert_alike(found, rule.explain(MODEL, images, keep_samples=True))


def test_what_changes_a_sample_is_compared():
    images = images_of(2)
    explainer = lime(sampler=Orthogonal(), num_samples=64)
    kept = explainer.explain(MODEL, images, 0, keep_samples=True)
    wrong = [
        ({"fill": Constant(0.5)}, {}, "resume has fill Constant.*, but this call has Constant"),
        ({"autocast": torch.bfloat16}, {}, "resume has autocast None, but this call has torch.bfl"),
        ({"segmenter": Grid(4, 2)}, {}, "resume has other segments than these inputs have"),
        ({}, {"differentiable": True}, "resume holds scores without their gradients"),
    ]
    for changes, call, message in wrong:
        other = dataclasses.replace(explainer, **changes)
        with pytest.raises(ValueError, match=message):
            other.explain(MODEL, images, 0, resume=kept, **call)
    for sampler in (Exhaustive(), lambda c, b, n, *, seed: Bernoulli()(c, b, n, seed=seed)):
        once = lime(sampler=sampler, num_samples=256)
        drawn = once.explain(MODEL, images, 0, keep_samples=True)
        with pytest.raises(TypeError, match="resume draws further rows, and .* has none"):
            once.explain(MODEL, images, 0, resume=drawn)
    free = {"kernel": Uniform(), "surrogate": LeastSquares(), "chunk_size": 7}
    other = dataclasses.replace(explainer, **free)
    more = other.explain(MODEL, images, 0, keep_samples=True, resume=kept)
    longer = dataclasses.replace(other, num_samples=128)
    assert_alike(more, longer.explain(MODEL, images, 0, keep_samples=True))


def test_other_vectors_and_texts_are_refused():
    x, net = torch.rand(2, 5, dtype=torch.float64), net_of(3, 5)
    kept = VectorLime(num_samples=20).explain(net, x, 0, keep_samples=True)
    for explainer, other, name in (
        (VectorLime(num_samples=20), x + 1, "vectors"),
        (VectorLime(num_samples=20, scale=torch.tensor(0.5)), x, "scale"),
    ):
        with pytest.raises(ValueError, match=f"resume has (other )?{name}"):
            explainer.explain(net, other, 0, resume=kept)
    explainer = TextLime(num_samples=20)
    kept = explainer.explain(texts_model, "one two three", 0, keep_samples=True)
    with pytest.raises(ValueError, match="resume explains other texts"):
        explainer.explain(texts_model, "one two four", 0, resume=kept)


def test_other_scores_of_the_inputs_warn():
    """The masks of other images, and of another model, are the same."""
    images = images_of(2)
    explainer = lime(num_samples=64)
    kept = explainer.explain(MODEL, images, 0, keep_samples=True)
    for model, x in ((net_of(7, 64), images), (MODEL, images.flip(0))):
        with pytest.warns(UserWarning, match="the model gives other scores for the inputs"):
            explainer.explain(model, x, 0, resume=kept)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer.explain(lambda x: MODEL(x.float()).bfloat16(), images, 0, resume=kept)


def test_settings_are_those_of_one_longer_call():
    images = images_of(4)
    by_need = lime(rounds=Until(error=0.1, most=800))
    kept = by_need.explain(MODEL, images, keep_samples=True)
    fewest = int(kept.samples_used.argmin())
    assert kept.masks.shape[1] > kept.samples_used[fewest]
    some = slice(fewest, fewest + 1)
    found = lime(num_samples=50).explain(MODEL, images[some], resume=kept[some])
    rows = int(kept.samples_used[fewest]) + 50
    assert found.settings["num_samples"] == found.explainer.num_samples == rows
    again = found.explainer.explain(MODEL, images[some], keep_samples=True)
    assert_alike(again, found, NUMBERS)


@pytest.mark.parametrize("sampler", [Sizes((1 / 3, 1 / 2)), Orthogonal(), Bernoulli()], ids=repr)
@pytest.mark.parametrize("segmenter", [None, Grid(2, 4), Grid(3, 3)], ids=repr)
def test_patches_go_on(sampler, segmenter):
    torch.manual_seed(0)
    vit = VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3).double().eval()
    torch.nn.init.normal_(vit.heads.head.weight)
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    settings = {"sampler": sampler, "segmenter": segmenter, "chunk_size": 20}
    short, more, long = (PatchLime(num_samples=n, **settings) for n in (50, 40, 90))
    kept = short.explain(vit, images, keep_samples=True)
    whole = long.explain(vit, images, keep_samples=True)
    assert_alike(more.explain(vit, images, keep_samples=True, resume=kept), whole)
    by_need = PatchLime(rounds=Until(error=0.15, most=700), **settings)
    found = by_need.explain(vit, images, keep_samples=True)
    for b, rows in enumerate(found.samples_used.tolist()):
        one = fixed(by_need, images[b : b + 1], rows, vit)
        assert found.coefficients[b].allclose(one.coefficients[0], rtol=0, atol=1e-9)


# ---- what else asks for the rows -------------------------------------------------------------


def test_settings_that_can_not_be_are_refused_when_they_are_made():
    rule = Until(error=0.25)
    for kind in (lime, VectorLime, TextLime, PatchLime, lambda **s: TokenLime(hide=0, **s)):
        with pytest.raises(ValueError, match=r"Until needs standard errors, and Lasso.* gives non"):
            kind(rounds=rule, surrogate=Lasso(alpha=0.1))
        with pytest.raises(TypeError, match=r"Until draws further rows, and Exhaustive\(\) has no"):
            kind(rounds=rule, sampler=Exhaustive())
    background = Background.of(torch.rand(20, 3))
    with pytest.raises(ValueError, match="Until needs standard errors"):
        TableLime(background=background, rounds=rule, surrogate=Ridge(errors=False))


def test_fidelity_takes_as_many_fresh_samples_as_there_were():
    images, rows = images_of(3), []

    def model(x):
        rows.append(len(x))
        return MODEL(x)

    explainer = lime(rounds=Until(error=0.1, most=800), chunk_size=1)
    found = explainer.explain(MODEL, images)
    most = int(found.samples_used.max())
    expected = metrics.fidelity(MODEL, images, found, seed=9, num_samples=most)
    assert metrics.fidelity(model, images, found, seed=9).equal(expected)
    assert sum(rows) == 3 * most
    rows.clear()
    once = lime(num_samples=60, chunk_size=1)
    kept = once.explain(MODEL, images, keep_samples=True)
    more = dataclasses.replace(once, num_samples=20).explain(MODEL, images, resume=kept)
    metrics.fidelity(model, images, more, seed=9)
    assert sum(rows) == 3 * 80


def test_the_progress_of_a_resumed_call_knows_all_rows():
    images, told = images_of(4), []
    explainer = lime(num_samples=20)
    kept = explainer.explain(MODEL, images, keep_samples=True)
    explainer.explain(MODEL, images, resume=kept, progress=lambda *rows: told.append(rows))
    assert told == [(4, 84), (44, 84), (84, 84)]
    data = torch.randn(50, 3, dtype=torch.float64, generator=torch.manual_seed(0))
    table = TableLime(background=Background.of(data), num_samples=64, chunk_size=40)
    kept = table.explain(net_of(3, 3), data[:4], 0, keep_samples=True)
    told.clear()
    table.explain(net_of(3, 3), data[:4], 0, resume=kept, progress=lambda *rows: told.append(rows))
    assert told == [(4, 68), (36, 68), (68, 68)]


def test_random_numbers_of_a_resumed_call_do_not_begin_again():
    """Those of the first rows after the inputs as they are are not theirs."""
    images, drawn = images_of(40), []

    def noisy(x):
        drawn.append(torch.randn(len(x), 1, dtype=torch.float64))
        return MODEL(x)[:, :1] + drawn[-1]

    explainer = lime(num_samples=2, chunk_size=40)
    kept = explainer.explain(noisy, images, 0, keep_samples=True)
    drawn.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer.explain(noisy, images, 0, resume=kept)
    assert len(torch.cat(drawn).unique()) == 40 * 3


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("samples_used", torch.tensor([0, 9]), "samples_used must be at least 1"),
        ("samples_used", torch.tensor([64, 999]), "samples_used must be at most the 9[67] rows"),
        ("variance_factor", torch.tensor([1.0, torch.nan]), "variance_factor must be finite"),
        ("variance_factor", torch.tensor([1.0, torch.inf]), "variance_factor must be finite"),
    ],
)
def test_files_with_wrong_numbers_of_rows_are_refused(name, value, sentence, tmp_path):
    e = lime(num_samples=96).explain(MODEL, images_of(2), keep_samples=True)
    dataclasses.replace(e, **{name: value}).save(tmp_path / "e.npz")
    with pytest.raises(ValueError, match=sentence):
        Explanation.load(tmp_path / "e.npz")


# ---- models that draw random numbers ---------------------------------------------------------


@pytest.mark.parametrize(("rows", "grid"), [(128, Grid(2, 4)), (512, Grid(4, 4))], ids=str)
def test_whole_cycles_do_not_hide_the_noise_of_a_model(rows, grid):
    """Errors are as large as the spread; plain Orthogonal's are those of a still model."""
    images = images_of(1).expand(60, -1, -1, -1)
    torch.manual_seed(0)

    def noise(x):
        return torch.randn(len(x), 1, dtype=torch.float64)

    plain, noisy = (
        lime(
            sampler=sampler, segmenter=grid, num_samples=rows, chunk_size=8000,
            surrogate=LeastSquares(),
        ).explain(noise, images, 0, seed=torch.arange(60))
        for sampler in (Orthogonal(), Orthogonal(noisy=True))
    )  # fmt: skip
    assert noisy.variance_factor == 1.0
    within = noisy.coefficients.abs() <= 1.96 * noisy.standard_errors
    assert 0.92 < within.double().mean() < 0.98
    assert torch.equal(plain.coefficients, noisy.coefficients)  # the same masks and draws
    assert (plain.standard_errors < 0.7 * noisy.standard_errors).all()


def test_a_noisy_model_is_sure_when_it_is():
    images = images_of(1).expand(60, -1, -1, -1)
    exact = lime(sampler=Exhaustive(), num_samples=256, surrogate=LeastSquares())
    truth = exact.explain(lambda x: MODEL(x)[:, :1], images[:1], 0).coefficients[0, 0]

    def model(x):
        return MODEL(x)[:, :1] + torch.randn(len(x), 1, dtype=torch.float64)

    explainer = lime(
        sampler=Orthogonal(noisy=True), surrogate=LeastSquares(), chunk_size=8000,
        rounds=Until(error=0.35, most=4000),
    )  # fmt: skip
    torch.manual_seed(0)
    found = explainer.explain(model, images, 0, seed=torch.arange(60))
    error = (found.coefficients[:, 0] - truth).norm(dim=1) / truth.norm()
    assert found.sure.all()
    assert (error <= 0.35).double().mean() >= 0.85


def test_orthogonal_is_called_what_it_was():
    assert repr(Orthogonal()) == "Orthogonal()"
    assert repr(Orthogonal(noisy=True)) == "Orthogonal(noisy=True)"
    with pytest.raises(TypeError, match="noisy must be True or False, got 0.5"):
        Orthogonal(noisy=0.5)


def test_a_forecast_is_no_less_than_the_first_look():
    images = images_of(1, size=12)
    explainer = lime(segmenter=Grid(12, 12), num_samples=400, rounds=Once())
    e = explainer.explain(lambda x: x.new_ones(len(x), 1), images)
    taken = dataclasses.replace(explainer, rounds=Until(error=0.5)).explain(
        lambda x: x.new_ones(len(x), 1), images
    )
    assert e.forecast(error=0.5).item() == 290  # 2·(144 + 1)
    assert taken.samples_used.item() == 321  # in steps of 32, behind the image


def test_other_segments_of_several_inputs_are_refused():
    first, second = images_of(2), images_of(2, seed=1)
    rows = torch.arange(64).view(8, 8) // 16

    def model(a, b):
        return MODEL(a) + MODEL(b).flip(1)

    explainer = lime(num_samples=50)
    arguments = (model, (first, second), 0)
    kept = explainer.explain(*arguments, segments=(rows, rows + 4), keep_samples=True)
    more = explainer.explain(*arguments, segments=(rows, rows + 4), resume=kept)
    longer = dataclasses.replace(explainer, num_samples=100)
    assert_alike(more, longer.explain(*arguments, segments=(rows, rows + 4)), NUMBERS)
    with pytest.raises(ValueError, match="resume has other segments"):
        explainer.explain(*arguments, segments=(rows, rows.T + 4), resume=kept)


@pytest.mark.parametrize(("rows", "kind"), [(0, ValueError), (-5, ValueError), (2.5, TypeError)])
def test_a_block_that_is_none(rows, kind):
    class Blocks(Bernoulli):
        def block(self, bound):
            return rows

    with pytest.raises(kind, match=r"block\(\) of the sampler must be"):
        lime(rounds=Until(error=0.3), sampler=Blocks()).explain(MODEL, images_of(1))
