"""Many explanations at once, against lime's own submodular pick and means computed one by one."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lime.submodular_pick import SubmodularPick
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.segments.test_slic import NoTransfers
from torchlime import TextLime, VectorLime, explain, explain_tokens
from torchlime._problems import Problem
from torchlime.fills import Constant
from torchlime.metrics import mean_heatmap, representative
from torchlime.segments import Grid, Slic
from torchlime.surrogates import LeastSquares


def limes_picks(evidence, k, top):
    """lime's SubmodularPick on explanations that hold the rows of ``evidence`` [inputs,F]."""

    def explain_instance(row, predict_fn, num_features, top_labels):
        strongest = sorted(range(len(row)), key=lambda j: (-abs(row[j]), j))[:num_features]
        listed = [(f"feature {j}", row[j]) for j in strongest if row[j] != 0]
        return SimpleNamespace(mode="regression", as_list=lambda label: listed)

    explainer = SimpleNamespace(explain_instance=explain_instance)
    return SubmodularPick(
        explainer, evidence, None, method="full", num_exps_desired=k, num_features=top
    ).V


@given(
    st.integers(1, 12), st.integers(1, 15), st.integers(1, 6), st.floats(0, 1), st.integers(0, 9999)
)
@settings(deadline=None, max_examples=200)
def test_picks_are_those_of_lime(inputs, features, top, share, seed):
    random = np.random.default_rng(seed)
    evidence = random.normal(size=(inputs, features))
    evidence[random.random(evidence.shape) >= share] = 0
    evidence[random.random(inputs) < 0.3] = evidence[0]  # ties
    k = int(random.integers(1, inputs + 1))
    picks = representative(torch.from_numpy(evidence), k, top=top)
    assert picks.dtype == torch.int64
    assert picks.tolist() == limes_picks(evidence, k, top)


def test_picks_cover_and_do_not_repeat():
    """The second input repeats the first; the third shows something else, though less."""
    evidence = torch.tensor([[9.0, 8.0, 0.0, 0.0], [9.0, 9.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0]])
    assert representative(evidence, 3).tolist() == [1, 2, 0]
    assert sorted(representative(torch.rand(9, 4), 9).tolist()) == list(range(9))


def test_targets_add_up_and_only_the_strongest_of_each_count():
    evidence = torch.tensor([[[3.0, 0.1, 0.0], [0.0, 0.1, 5.0]], [[2.0, 1.0, 0.0]] * 2])
    assert representative(evidence, 1, top=1).tolist() == [0]
    only = torch.tensor([[3.0, 0.0, 5.0], [4.0, 0.0, 0.0]])
    assert representative(only, 1).tolist() == [0]


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_what_is_not_finite_shows_nothing(broken):
    evidence = torch.tensor([[1.0, broken], [0.5, 0.0], [0.0, 0.2]])
    assert representative(evidence, 3).tolist()[2] == 0
    assert representative(torch.zeros(3, 2), 2).tolist() == [2, 1]


def test_vectors_are_compared_by_their_effect():
    """A coefficient is in the unit of its feature, so the scale belongs to it."""
    x = torch.tensor([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
    scale = torch.tensor([1.0, 100.0, 1e-3], dtype=torch.float64)
    weights = torch.tensor([[5.0, 0.0, 1.0], [5.0, 0.0, 1.0], [0.0, 1.0, 0.0]]).double()

    def model(rows):
        which = (rows[:, None] - x).div(scale).square().sum(2).argmin(1)
        return (weights[which] * rows).sum(1, keepdim=True)

    explanation = VectorLime(num_samples=64, scale=scale).explain(model, x)
    evidence = explanation.coefficients * scale
    expected = limes_picks(evidence[:, 0].numpy(), 2, 2)
    assert representative(explanation, 2, top=2).tolist() == expected
    parts = [explanation[0], explanation[1:]]
    assert representative(parts, 2, top=2).tolist() == expected


def parts_of_images(batch=6):
    """Images of which only some quarters matter: their coefficients are their pixels' sums."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 1, 8, 8, generator=generator, dtype=torch.float64)
    images[:3, :, 4:] = 0
    images[3:, :, :, :4] = 0
    return images


def total(x):
    return torch.stack((x.sum((1, 2, 3)), x[:, 0, :4].sum((1, 2))), 1)


def explained(images, segmenter, targets=0):
    return explain(
        total, images, targets, segmenter=segmenter, fill=Constant(0.0), num_samples=256, seed=0
    )


def test_images_are_compared_on_a_grid():
    images = parts_of_images()
    explanation = explained(images, Grid(2, 2))
    evidence = explanation.coefficients[:, 0]
    expected = limes_picks(evidence.numpy(), 3, 2)
    assert representative(explanation, 3, top=2, grid=(2, 2)).tolist() == expected


def literal(heatmaps, grid):
    """[n,h,w]: means of cells, one by one."""
    (h, w), (height, width) = grid, heatmaps.shape[-2:]
    return torch.stack([
        torch.stack([
            torch.stack([
                m[i * height // h : (i + 1) * height // h, j * width // w : (j + 1) * width // w]
                .double()
                .mean()
                for j in range(w)
            ])
            for i in range(h)
        ])
        for m in heatmaps
    ])  # fmt: skip


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 5), (8, 8)])
@pytest.mark.parametrize("segmenter", [Grid(2, 2), Grid(3, 2), Slic(6)])
def test_the_mean_is_that_of_the_cells_one_by_one(grid, segmenter):
    explanation = explained(parts_of_images(), segmenter)
    cells = literal(explanation.heatmap()[:, 0], grid)
    mean, error = mean_heatmap(explanation, grid)
    torch.testing.assert_close(mean, cells.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(error, cells.std(0) / 6**0.5, rtol=1e-5, atol=1e-6)
    split, _ = mean_heatmap([explanation[:2], explanation[2:]], grid)
    torch.testing.assert_close(split, mean, rtol=0, atol=1e-12)


def test_a_planted_part_is_found_and_its_error_holds_the_truth():
    """Over many draws of images, the mean lies within three errors of the mean of all images."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(200, 1, 4, 4, generator=generator, dtype=torch.float64)
    images[..., 2:, 2:] += 1
    black = {"segmenter": Grid(2, 2), "fill": Constant(0.0), "surrogate": LeastSquares()}
    explanation = explain(lambda x: x.sum((2, 3)), images, **black)
    mean, error = mean_heatmap(explanation, (2, 2))
    expected = torch.tensor([[2.0, 2.0], [2.0, 6.0]], dtype=torch.float64)
    assert ((mean - expected).abs() < 3 * error).all()
    assert (error < 0.06).all()
    torch.testing.assert_close(
        error, torch.full_like(error, (4 / 12 / 200) ** 0.5), rtol=0.2, atol=0
    )


def test_a_target_picks_the_images_that_explain_it():
    images = parts_of_images(4)
    explanation = explained(images, Grid(2, 2), torch.tensor([[0, 1], [0, 1], [1, 0], [0, 1]]))
    mean, _ = mean_heatmap(explanation, (2, 2), target=1)
    rows = torch.tensor([1, 1, 0, 1])
    heatmaps = explanation.heatmap()[torch.arange(4), rows]
    torch.testing.assert_close(mean, literal(heatmaps, (2, 2)).mean(0), rtol=1e-6, atol=1e-6)
    first, _ = mean_heatmap(explanation, (2, 2))
    expected = literal(explanation.heatmap()[:, 0], (2, 2)).mean(0)
    torch.testing.assert_close(first, expected, rtol=1e-6, atol=1e-6)
    one, error = mean_heatmap(explanation[2], (2, 2), target=1)
    assert one.isfinite().all()
    assert error.isnan().all()
    none, error = mean_heatmap(explanation, (2, 2), target=7)
    assert none.isnan().all()
    assert error.isnan().all()


def test_broken_explanations_do_not_count():
    explanation = explained(parts_of_images(4), Grid(2, 2))
    expected = mean_heatmap(explanation[:2], (2, 2))
    coefficients = explanation.coefficients.clone()
    coefficients[2, 0, 1] = torch.nan
    problems = explanation.problems.clone()
    problems[3] |= Problem.TARGET_OUT_OF_RANGE
    broken = dataclasses.replace(explanation, coefficients=coefficients, problems=problems)
    for found, known in zip(mean_heatmap(broken, (2, 2)), expected, strict=True):
        assert torch.equal(found, known)
    assert set(representative(broken, 2, grid=(2, 2)).tolist()) == {0, 1}


def test_background_is_no_evidence():
    labels = torch.tensor([[0, 0, -1, -1], [1, 1, -1, -1]])
    images = torch.rand(3, 1, 2, 4, dtype=torch.float64)
    explanation = explain(
        lambda x: x.sum((2, 3)), images, segments=labels, fill=Constant(0.0), num_samples=16
    )
    mean, _ = mean_heatmap(explanation, (2, 2))
    assert mean[:, 1].tolist() == [0, 0]
    assert (mean[:, 0] > 0).all()


TEXTS = ["good film", "film good", "bad plot", "good good film"]


def scores_of_words(texts):
    worth = {"good": 2.0, "bad": -3.0, "film": 0.5, "plot": 1.0}
    return torch.tensor(
        [[sum(worth[w] for w in t.split())] for t in texts], dtype=torch.float64
    )  # fmt: skip


@pytest.mark.parametrize("together", [True, False])
def test_texts_are_compared_by_their_words(together):
    """The order of the words does not matter, so the first two texts show the same."""
    how = TextLime(num_samples=200, together=together)
    explanation = how.explain(scores_of_words, TEXTS)
    words = ["good", "film", "bad", "plot"]
    evidence = torch.zeros(4, len(words), dtype=torch.float64)
    for row, (names, values) in enumerate(
        zip(explanation.names(), explanation.coefficients[:, 0], strict=True)
    ):
        for name, value in zip(names, values, strict=False):
            evidence[row, words.index(name)] += value
    expected = limes_picks(evidence.numpy(), 3, 10)
    assert representative(explanation, 3).tolist() == expected
    assert representative([explanation[:3], explanation[3]], 3).tolist() == expected
    assert set(expected[:2]) & {0, 1, 3}  # one of those of good and film
    assert expected[1] == 2 or expected[0] == 2


def test_texts_beside_other_inputs_are_refused():
    text = TextLime(num_samples=100).explain(scores_of_words, TEXTS[:1])
    vectors = VectorLime(num_samples=16, scale=1.0).explain(
        lambda x: x.sum(1, keepdim=True), torch.rand(1, 2)
    )
    with pytest.raises(ValueError, match="compared by their names"):
        representative([text, vectors], 1)
    ids = torch.tensor([[5, 7, 6], [7, 5, 6]])
    tokens = explain_tokens(lambda i: (i == 7).double().sum(1), ids, hide=0, num_samples=50)
    with pytest.raises(ValueError, match=r"tokenizer="):
        representative(tokens, 1, grid=(3,))


def test_volumes_have_a_grid_of_three_numbers():
    volumes = torch.rand(4, 1, 4, 6, 6, dtype=torch.float64)
    volumes[:, :, :2] = 0
    explanation = explain(
        lambda x: x.sum((2, 3, 4)), volumes, segmenter=Slic(8), fill=Constant(0.0), num_samples=64
    )
    mean, error = mean_heatmap(explanation, (2, 1, 1))
    assert mean.shape == error.shape == (2, 1, 1)
    assert mean[0] < mean[1]


def test_runs_on_fake_cuda_without_a_word_to_the_host():
    explanation = explained(parts_of_images(), Grid(2, 2), 0)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        tensors = {n: mode.from_tensor(t) for n, t in explanation.tensors().items()}
        on_cuda = {n: torch.empty_like(t, device="cuda") for n, t in tensors.items()}
        fake = dataclasses.replace(explanation, **on_cuda)
        with NoTransfers():
            picks = representative(fake, 2, grid=(2, 2))
            mean, error = mean_heatmap(fake, (2, 2), target=0)
    assert {t.device.type for t in (picks, mean, error)} == {"cuda"}
    assert picks.shape == (2,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e, v: representative(e, 0), ValueError, "k must be at least 1"),
        (lambda e, v: representative(e, 7), ValueError, "at most the number of inputs, 6"),
        (lambda e, v: representative(e, 2.0), TypeError, "k must be an int"),
        (lambda e, v: representative(e, 1, top=0), ValueError, "top must be at least 1"),
        (lambda e, v: representative([e, v], 1), ValueError, "the same targets and features"),
        (lambda e, v: representative([], 1), ValueError, "one or more on one device, got 0"),
        (lambda e, v: representative("e", 1), TypeError, "explanations must be an Explanation"),
        (lambda e, v: representative(torch.rand(3), 1), ValueError, r"\[inputs,F\]"),
        (lambda e, v: representative(torch.ones(3, 3).int(), 1), TypeError, "floating point"),
        (lambda e, v: representative(e, 1, grid=(9, 9)), ValueError, r"grid \(9, 9\) does not fit"),
        (lambda e, v: mean_heatmap(e, (7,)), ValueError, "a number for each axis"),
        (lambda e, v: mean_heatmap(e, 7), TypeError, "grid must be a number for each axis"),
        (lambda e, v: mean_heatmap(e, (0, 7)), ValueError, "a number of grid must be at least 1"),
        (lambda e, v: mean_heatmap(v), ValueError, "no pixels"),
        (lambda e, v: mean_heatmap(e, target="cat"), TypeError, "target must be an int or None"),
        (lambda e, v: mean_heatmap(e.heatmap()), TypeError, "got Tensor"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_named(call, error, message):
    vectors = VectorLime(num_samples=16, scale=1.0).explain(
        lambda x: x.sum(1, keepdim=True), torch.rand(2, 3)
    )
    with pytest.raises(error, match=message):
        call(explained(parts_of_images(), Grid(2, 2)), vectors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_sums_of_large_evidence_do_not_overflow(dtype):
    most = torch.finfo(dtype).max
    evidence = torch.tensor([[most, most, 0], [most, 0, 0], [0, 0, most]], dtype=dtype)
    small = (evidence / most).double()
    assert representative(evidence, 3).tolist() == representative(small, 3).tolist() == [0, 2, 1]
