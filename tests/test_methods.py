"""Every recipe runs, in a batch as one by one, and gives what its definition says."""

import itertools
import math
import re

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.test_fake_cuda import RefuseWaiting
from torchlime import Explanation, Lime, Rise, VectorLime, methods
from torchlime.fills import Blur, Constant
from torchlime.masks import Exhaustive, LeaveOneOut, SlidingWindow
from torchlime.methods._registry import METHODS, recipe
from torchlime.rounds import Once, Until
from torchlime.segments import Grid
from torchlime.surrogates import LeastSquares, MeanDrop
from torchlime.weights import Exponential, Uniform

B, ROWS, COLS = 2, 2, 3
PLAYERS = ROWS * COLS
SMALL = {"segmenter": Grid(ROWS, COLS), "fill": Constant(0.0)}
OWN = {
    "rise": {"grid": (2, 2), "segmenter": Grid(ROWS, COLS)},
    "grid_lime": {"rows": ROWS, "cols": COLS},
    "occlusion": {"grid": (ROWS, COLS), "window": (2, 2)},
}
OWN_FILL = {"slice": {"segmenter": Grid(ROWS, COLS), "sigma": 1.0}}
OF_IMAGES = [name for name in methods.names() if methods.get(name).takes == "images"]


def images():
    return torch.rand(B, 1, 4, 6, generator=torch.manual_seed(1)).double() + 0.5


def tables(order):
    """A game by its terms: the interactions of all sets of up to ``order`` segments [2,…]."""
    generator = torch.Generator().manual_seed(5)
    sets = [s for n in range(1, order + 1) for s in itertools.combinations(range(PLAYERS), n)]
    return sets, torch.randn(len(sets), 2, generator=generator).double() / len(sets)


def game(order):
    """A model of images that shows a game of two classes: a segment plays by its mean."""
    sets, strength = tables(order)

    def model(x):
        means = x.unflatten(2, (ROWS, -1)).unflatten(4, (COLS, -1)).mean((1, 3, 5)).flatten(1)
        return torch.stack([means[:, s].prod(1) for s in map(list, sets)], 1) @ strength

    return model


def all_scores(model, image):
    """The scores of all 2^S masks, a dictionary from the kept segments."""
    found = {}
    for kept in itertools.product([0.0, 1.0], repeat=PLAYERS):
        mask = torch.tensor(kept).view(ROWS, COLS).double()
        mask = mask.repeat_interleave(2, 0).repeat_interleave(2, 1)
        found[frozenset(i for i, k in enumerate(kept) if k)] = model(image * mask)[0]
    return found


def shapley(scores):
    """By the definition: [2,S]."""
    values = torch.zeros(2, PLAYERS).double()
    for i in range(PLAYERS):
        others = [j for j in range(PLAYERS) if j != i]
        for n in range(PLAYERS):
            weight = math.factorial(n) * math.factorial(PLAYERS - n - 1) / math.factorial(PLAYERS)
            for s in map(frozenset, itertools.combinations(others, n)):
                values[:, i] += weight * (scores[s | {i}] - scores[s])
    return values


def banzhaf_values(scores):
    """By the definition: [2,S]."""
    values = torch.zeros(2, PLAYERS).double()
    for i, (kept, score) in itertools.product(range(PLAYERS), scores.items()):
        values[:, i] += score * (1 if i in kept else -1) / 2 ** (PLAYERS - 1)
    return values


def made(name, **settings):
    small = {"fill": SMALL["fill"], **OWN[name]} if name in OWN else SMALL
    return methods.get(name)(**OWN_FILL.get(name, small), **settings)


def explained(name, model, x, **settings):
    return made(name, **settings).explain(model, x, torch.tensor([[0, 1]]).expand(len(x), -1))


def exact(model, x, kernel):
    """The least squares fit to all masks."""
    every = {"sampler": Exhaustive(), "num_samples": 64, "surrogate": LeastSquares()}
    return Lime(**SMALL, **every, kernel=kernel).explain(model, x, torch.tensor([[0, 1]] * B))


# Every recipe


@pytest.mark.parametrize("name", OF_IMAGES)
def test_it_explains_a_batch_as_one_by_one(name):
    model, x = game(3), images()
    e = explained(name, model, x).check(sure=False)
    assert isinstance(e, Explanation)
    assert e.coefficients.shape == (B, 2, PLAYERS)
    assert e.coefficients.isfinite().all()
    assert e.heatmap().shape == (B, 2, 4, 6)
    assert type(made(name)) in (Lime, Rise)
    for b in range(B):
        alone = explained(name, model, x[b : b + 1])
        assert alone.coefficients.allclose(e.coefficients[b : b + 1], 0, 1e-8)


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")
@pytest.mark.parametrize("name", [name for name in OF_IMAGES if name not in ("bayeslime", "slime")])
def test_nothing_waits_for_the_device(name):
    """Rounds that stop by need read a flag, as they say; all others read nothing."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(B, 3, 32, 48, device="cuda")
        with RefuseWaiting():
            e = made(name).explain(lambda rows: rows.mean((2, 3)), x)
    assert e.coefficients.device.type == "cuda"


@pytest.mark.parametrize("name", methods.names())
def test_it_is_described_in_one_sentence_with_its_paper(name):
    method = methods.get(name)
    assert re.fullmatch(r"[A-Z][^.]*\.", method.sentence), method.sentence
    assert 30 < len(method.sentence) < 110
    authors = r"[A-Z][\w-]+(, [A-Z][\w-]+)*( & [A-Z][\w-]+)? (20|19)\d\d, [A-Z“]"
    assert re.match(f"{authors}|Reproducibility Study of", method.paper)
    assert not method.part or re.fullmatch(r"[a-z].*\.", method.part)
    assert methods.describe(name.replace("_", "-")).startswith(f"{method.sentence} {method.paper}")
    assert method.make.__name__ in methods.__all__
    assert getattr(methods, method.make.__name__) is method.make


def test_names_are_unique_and_errors_help():
    assert len(set(methods.names())) == len(methods.names()) >= 15
    with pytest.raises(ValueError, match="there are two methods lime"):
        recipe("A & B 2000, C")(methods.lime)
    with pytest.raises(ValueError, match="no method 'kernelshap'; did you mean kernel_shap"):
        methods.get("kernelshap")
    with pytest.raises(ValueError, match="no method 'S-LIME'; did you mean slime"):
        methods.get("S-LIME")
    for spelled, name in (("RISE", "rise"), ("BayLIME", "baylime"), ("GRID-LIME", "grid_lime")):
        assert methods.get(spelled).name == name
    with pytest.raises(TypeError, match="name must be a string, got int"):
        methods.get(3)
    with pytest.raises(ValueError, match="there are banzhaf, .*slime"):
        methods.get("zzz")
    with pytest.raises(TypeError, match=r"grid must be a tuple of ints, such as \(7, 7\), got 14"):
        methods.occlusion(grid=14)
    with pytest.raises(TypeError, match=r"banzhaf is made of kernel=Uniform\(\), so kernel cannot"):
        methods.banzhaf(kernel=Exponential())
    with pytest.raises(TypeError, match=r"grid_lime is made of segmenter=Grid\(rows=7, cols=7\)"):
        methods.grid_lime(segmenter=Grid(2, 2))
    with pytest.raises(TypeError, match=r"lime\(\) has no keyword 'num_sample'; did you mean"):
        methods.lime(num_sample=3)
    with pytest.raises(TypeError, match=r"glime_gauss is made of kernel=Uniform\(\)"):
        methods.glime_gauss(kernel=Exponential())
    values = {"rounds": Once(), "segmenter": Grid(2, 3), "fill": Constant(0.5), "num_samples": 99}
    values |= {"seed": 3, "chunk_size": 5} | dict.fromkeys(("sampler", "kernel", "surrogate"), 3)
    for name, (setting, value) in itertools.product(OF_IMAGES, values.items()):
        method = methods.get(name)
        if setting in method.fixes:
            with pytest.raises(TypeError, match=f"{setting}"):
                method(**{setting: value})
        else:
            assert getattr(method(**{setting: value}), setting) == value
    for name in ("leave_one_out", "occlusion"):
        with pytest.raises(
            TypeError, match=rf"{name} is made of rounds=Once\(\), so rounds cannot"
        ):
            methods.get(name)(rounds=Until(error=0.2))
    assert methods.get("occlusion").own == ("grid", "window", "stride")
    assert "lime" in METHODS


def test_a_fidelity_is_of_what_predicts_scores_and_nan_else():
    model, x = game(3), images()
    for name in OF_IMAGES:
        e = explained(name, model, x)
        without = name in ("rise", "leave_one_out", "occlusion")
        assert e.fidelity.isnan().all() if without else e.fidelity.isfinite().all()
        assert ("fidelity" in repr(e)) == (not without)
        assert "nan" not in repr(e)


@pytest.mark.parametrize("name", methods.names())
def test_the_error_of_an_unknown_setting_names_the_method(name):
    method = methods.get(name)
    with pytest.raises(TypeError, match=rf"^{name}\(\) has no keyword 'foo'; it takes .*seed"):
        method(foo=1)
    with pytest.raises(TypeError, match=rf"^{name}\(\) .* 'sed'; did you mean 'seed'\?"):
        method(sed=1)
    for own in method.own:
        with pytest.raises(TypeError, match=rf"^{name}\(\) .*; did you mean '{own}'\?"):
            method(**{f"{own}s": 1})
    for fixed in {*method.fixes} & {"sampler", "kernel", "surrogate"}:
        with pytest.raises(TypeError, match=rf"^{name}(\(\)|) .*{fixed}"):
            method(**{fixed: 1})


# Known answers


@pytest.mark.parametrize("name", ["kernel_shap", "leverage_shap", "permutation_shapley"])
def test_games_of_pairs_have_exact_shapley_values(name):
    """Pairs of complements, or of an order and its reverse, cancel what pairs of players add."""
    model, x = game(2), images()
    e = explained(name, model, x, num_samples=2 + 40 * PLAYERS)
    for b in range(B):
        assert e.coefficients[b].allclose(shapley(all_scores(model, x[b : b + 1])), 0, 1e-8)


@pytest.mark.parametrize("name", ["kernel_shap", "leverage_shap", "permutation_shapley"])
def test_any_game_has_them_in_the_limit_and_they_add_up(name):
    model, x = game(PLAYERS), images()
    wanted = torch.stack([shapley(all_scores(model, x[b : b + 1])) for b in range(B)])
    few, many = (explained(name, model, x, num_samples=n).coefficients for n in (200, 20000))
    errors = [(found - wanted).norm() / wanted.norm() for found in (few, many)]
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 3
    for found in (few, many):
        total = model(x) - model(x * 0)
        assert found.sum(2).allclose(total, 0, 1e-8) or name == "permutation_shapley"


def test_banzhaf_values():
    model, x = game(PLAYERS), images()
    every = exact(model, x, Uniform())
    wanted = torch.stack([banzhaf_values(all_scores(model, x[b : b + 1])) for b in range(B)])
    assert every.coefficients.allclose(wanted, 0, 1e-9)
    e = explained("banzhaf", model, x, num_samples=4096)
    assert ((e.coefficients - wanted).norm() / wanted.norm()) < 0.03


def test_glime_has_the_limit_of_lime():
    model, x = game(PLAYERS), images()
    lime, glime = (explained(name, model, x, num_samples=20000) for name in ("lime", "glime"))
    every = exact(model, x, Exponential(0.25))
    for e in (lime, glime):
        off = (e.coefficients - every.coefficients) / e.standard_errors
        assert off.square().mean().sqrt() < 2
        assert (e.coefficients - every.coefficients).norm() / every.coefficients.norm() < 0.03


def test_the_width_of_glime_suits_its_distance():
    """Of LIME's width, 0.25, most masks would hide nothing."""
    count = torch.tensor([50])
    for distance, kept in (("cosine", 0.51), ("euclidean", 1 / (1 + math.exp(-1)))):
        masks = methods.glime(distance=distance).sampler(count, 50, 4000, seed=0)
        assert masks.double().mean().item() == pytest.approx(kept, abs=0.01)
    assert methods.glime().sampler.law.width == 0.25
    assert methods.glime(0.4, "euclidean").sampler.law.width == 0.4


def test_the_binomial_law_of_glime_is_that_of_the_paper():
    """P(k) = C(d,k) exp(k/σ²) / (1 + exp(1/σ²))^d, for the paper's σ."""
    sigma, d = 0.9, 7
    law = methods.glime(sigma / 2**0.5, "euclidean").sampler.law
    masses = law(torch.tensor([d]), d)[0]
    binomial = [math.comb(d, k) * math.exp(k / sigma**2) for k in range(d + 1)]
    wanted = torch.tensor(binomial).double() / (1 + math.exp(1 / sigma**2)) ** d
    assert (masses / masses.sum()).allclose(wanted, 1e-6)


def test_bayesian_relatives_of_ridge():
    model, x = game(3), images()
    lime = explained("lime", model, x, num_samples=200)
    known = {"mean": 0.0, "precision": 2.0, "noise_precision": 2.0, "num_samples": 200}
    assert explained("baylime", model, x, **known).coefficients.allclose(lime.coefficients, 0, 1e-9)
    prior = lime.coefficients
    sure = explained("baylime", model, x, mean=prior, precision=1e9, noise_precision=1.0)
    assert sure.coefficients.allclose(prior, 0, 1e-5)
    for name in ("bayeslime", "slime"):
        once = explained(name, model, x, rounds=Once(), num_samples=200)
        assert torch.equal(once.coefficients, lime.coefficients)
    sure = explained("bayeslime", model, x, error=0.1).check()
    surer = explained("bayeslime", model, x, error=0.05, most=4096).check()
    assert (surer.samples_used > sure.samples_used).all()
    named = explained("slime", model, x, top=1).check()
    strength = exact(model, x, Exponential(0.25)).coefficients.abs()
    chosen = strength.gather(2, named.coefficients.abs().argmax(2, keepdim=True))[..., 0]
    assert (chosen > 0.85 * strength.amax(2)).all()  # up to near ties


def test_segments_of_no_sure_sign_are_dropped():
    """One segment is all that counts; the network's other output is pure noise."""
    x = images()

    def model(rows):
        strong = 3 * rows[..., :2, :2].mean((1, 2, 3))
        noise = (1e4 * rows.sum((1, 2, 3))).sin()
        return torch.stack([strong + 0.3 * noise, noise], 1)

    grid = {"segmenter": SMALL["segmenter"], "num_samples": 300}
    for name, own, fill in (("slice", {"sigma": 1.0}, Blur(1.0)),
                            ("belief", {"fill": Constant(0.0)}, Constant(0.0))):  # fmt: skip
        e = methods.get(name)(**own, **grid).explain(model, x, 0).check()
        found = methods.lime(fill=fill, **grid).explain(model, x, 0)
        assert (found.coefficients != 0).all()
        assert (e.coefficients == 0).any(2).all()
        kept = methods.get(name)(**own, **grid, threshold=1.0).explain(model, x, 0)
        assert (kept.coefficients != 0).all()
        if name == "slice":
            assert torch.equal(kept.coefficients, found.coefficients)
        else:
            assert (e.coefficients[:, 0, 0] > 1).all()
    assert methods.slice_lime(sigma=2.0).fill == Blur(2.0)


def test_leaving_one_out_and_sliding_a_window():
    model, x = game(PLAYERS), images()
    alone, windows = (explained(name, model, x) for name in ("leave_one_out", "occlusion"))
    whole = frozenset(range(PLAYERS))
    for b in range(B):
        scores = all_scores(model, x[b : b + 1])
        drops = torch.stack([scores[whole] - scores[whole - {i}] for i in range(PLAYERS)], 1)
        assert alone.coefficients[b].allclose(drops, 0, 1e-9)
        left, right = ({0, 1, 3, 4}, {1, 2, 4, 5})
        loss = {n: scores[whole] - scores[whole - s] for n, s in (("l", left), ("r", right))}
        middle = (loss["l"] + loss["r"]) / 2
        wanted = torch.stack([loss["l"], middle, loss["r"]] * 2, 1)
        assert windows.coefficients[b].allclose(wanted, 0, 1e-9)
    assert windows.intercepts.allclose(model(x) - windows.coefficients.sum(2), 0, 1e-9)
    assert windows.standard_errors.isnan().all()
    assert windows.fidelity.isnan().all()  # no line predicts the scores
    kept = made("occlusion").explain(model, x, 0, keep_samples=True)
    assert kept.samples_used.tolist() == [3, 3]  # fewer than the cells, and no problem
    assert kept.refit().ok.all()
    assert not kept.refit(surrogate=LeastSquares()).ok.any()


def test_the_mean_drop_by_its_definition():
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand(B, 30, PLAYERS, generator=generator) < 0.7
    kept[:, 0], kept[1, :, 4:] = True, False
    count = torch.tensor([PLAYERS, 4])
    scores, weights = (torch.rand(B, 30, n, generator=generator).double() for n in (2, 1))
    fit = MeanDrop()(kept, scores, weights[..., 0], count)
    for b, j in itertools.product(range(B), range(PLAYERS)):
        rows = [n for n in range(30) if not kept[b, n, j]]
        lost = sum(weights[b, n] * (scores[b, 0] - scores[b, n]) for n in rows)
        mean = lost / sum(weights[b, n] for n in rows) if j < count[b] else torch.zeros(2)
        assert fit.coefficients[b, :, j].allclose(mean.double(), 0, 1e-12)
    assert fit.ok.all()
    kept[0, 0, 0] = False
    assert MeanDrop()(kept, scores, weights[..., 0], count).ok.tolist() == [False, True]
    with pytest.raises(TypeError, match="MeanDrop needs masks, got noise"):
        MeanDrop()(kept.double(), scores, weights[..., 0], count)
    assert isinstance(methods.occlusion().sampler, SlidingWindow)
    assert isinstance(methods.leave_one_out().sampler, LeaveOneOut)


def test_rise_is_rise():
    model, x = game(3), images()
    settings = {"grid": (2, 2), "num_samples": 50, "normalised": True}
    ours = methods.rise(**settings).explain(model, x)
    assert torch.equal(ours.coefficients, Rise(**settings).explain(model, x).coefficients)


def test_normal_noise_gives_the_gradient():
    x = torch.rand(B, 1, 3, 4, generator=torch.manual_seed(0)).double()
    explainer = methods.glime_gauss(scale=1e-3, num_samples=2000)
    assert isinstance(explainer, VectorLime)
    e = explainer.explain(lambda z: z.square().sum((1, 2, 3)), x)
    gradient = e.coefficients.unflatten(2, x.shape[1:])[:, 0]
    assert gradient.allclose(2 * x, 0, 0.02)


# Hierarchies


def test_a_hierarchy_divides_the_strongest_segments():
    x = images()

    def model(x):
        return -game(1)(x)  # both classes have segments that speak for them

    coarse = torch.tensor([7, 7, 7, 7, 9, 9]).expand(4, 6)  # columns 0 and 1, and column 2
    fine = Grid(ROWS, COLS)(x[:1]).labels[0]
    hierarchy = methods.dseg(strongest=1, fill=Constant(0.0), num_samples=200)
    e = hierarchy.explain(model, x, 0, maps=[coarse, fine]).check()
    first = hierarchy.explain(model, x, 0, maps=[coarse]).check()
    plain = methods.lime(fill=Constant(0.0), num_samples=200)
    assert torch.equal(first.coefficients, plain.explain(model, x, 0, segments=coarse).coefficients)
    for b in range(B):
        strongest = int(first.coefficients[b, 0].argmax())
        divided = (coarse == [7, 9][strongest]) & (first.coefficients[b, 0].max() > 0)
        by_hand = torch.where(divided, 100 + fine, coarse)
        wanted = plain.explain(model, x[b : b + 1], 0, segments=by_hand)
        count = int(wanted.segment_count)
        assert e.segment_count[b] == count
        assert e.coefficients[b, :, :count].allclose(wanted.coefficients[0], 0, 1e-9)
        assert torch.equal(e.segments[b], wanted.segments[0])
    pixels = torch.arange(24).view(4, 6)
    deep = hierarchy.explain(model, x, 0, maps=[coarse, fine, pixels])
    assert (deep.segment_count > e.segment_count).all()
    background = torch.where(fine == 0, -1, fine)
    kept = hierarchy.explain(model, x, 0, maps=[coarse, background]).check()
    assert (kept.segments >= 0).all()
    with pytest.raises(ValueError, match="maps must hold at least one label map"):
        hierarchy.explain(model, x, 0, maps=[])
    with pytest.raises(TypeError, match="maps must be a list of label maps, .* got Tensor"):
        hierarchy.explain(model, x, 0, maps=coarse)
    with pytest.raises(TypeError, match="segments are the first of the maps"):
        hierarchy.explain(model, x, 0, maps=[coarse], segments=coarse)
    with pytest.raises(TypeError, match="dseg\\(\\) .*segmenter"):
        methods.dseg(segmenter=Grid(2, 2))  # it would not be used
    with pytest.raises(TypeError, match=r"explainer must be a Lime\(...\)"):
        methods.Hierarchy(explainer=3)
