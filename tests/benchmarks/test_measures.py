"""What the benchmarks compute from what they measure: known answers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import curves, overhead, residual, samples, settings, superpixels
from torchlime.weights import Uniform


def test_superpixel_measures():
    squares = np.kron(np.arange(4).reshape(2, 2), np.ones((5, 5), int))
    image = np.stack([squares, 2.0 * squares], axis=-1)
    assert superpixels.measures(squares, image) == {
        "segments": 4,
        "explained_variation": pytest.approx(1.0),
        "compactness": pytest.approx(np.pi / 4),
        "disconnected": 0,
    }
    split = squares.copy()
    split[split == 3] = 0
    assert superpixels.disconnected(split) == 1  # the corners touch, the edges do not
    one = np.zeros_like(squares)
    assert superpixels.explained_variation(one, image) == pytest.approx(0.0)
    assert superpixels.compactness(np.zeros((2, 8), int)) == pytest.approx(4 * np.pi * 16 / 20**2)


def test_errors_and_agreement():
    truth = torch.tensor([[3.0, 4.0]])
    off = truth + torch.tensor([[[0.0, 0.0]], [[0.0, 1.0]]])
    assert samples.relative_errors(off, truth)[:, 0].tolist() == pytest.approx([0.0, 1 / 25])
    ranks = torch.tensor([[5.0, -4, 1, 0], [5, 4, 1, 0], [5, 0, 4, 1]])
    assert samples.agreement(ranks, 2) == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)


def curve_rows(sampler, photo, errors):
    kernel = {"Bernoulli": "Exponential", "Orthogonal": "WithoutUnmasked"}[sampler]
    return [
        {"sampler": sampler, "kernel": kernel, "surrogate": "Ridge(alpha=1.0)", "photo": photo,
         "dtype": "float32", "output": "probability", "samples": n, "errors": [e, e]}
        for n, e in errors.items()
    ]  # fmt: skip


def test_evaluations_for_equal_error():
    rows = curve_rows("Bernoulli", "cat", {100: 0.4, 1000: 0.04})  # error 40 / N
    rows += curve_rows("Orthogonal", "cat", {100: 0.1, 1000: 0.01})  # error 10 / N
    rows += curve_rows("Bernoulli", "cup", {100: 0.2, 1000: 0.02})
    rows += curve_rows("Orthogonal", "cup", {100: 0.2, 1000: 0.02})
    bernoulli, orthogonal = (
        samples.curves(rows, "probability", design) for design in (samples.LIMES, samples.BEST)
    )
    needed, mark = curves.equal_error(100, orthogonal, bernoulli)
    assert needed == pytest.approx((400 * 100) ** 0.5, rel=1e-3)
    assert mark == ""
    # Bernoulli was not measured as far as the cat's error at 1000 orthogonal masks.
    assert curves.equal_error(1000, orthogonal, bernoulli) == (pytest.approx(1000), "≥")
    assert curves.times(1000, orthogonal, bernoulli) == "≥ 1.00"
    # Nor with as few masks as err like 100 orthogonal ones of a bad design.
    bad = {"cat": [(100, 4.0), (1000, 0.01)], "cup": [(100, 4.0), (1000, 0.02)]}
    assert curves.times(100, bad, bernoulli) == "≤ 1.00"
    assert curves.times(1000, bad, bernoulli) == "≥ 1.00"
    mixed = {"cat": [(100, 4.0)], "cup": [(100, 0.001)]}
    assert curves.times(100, mixed, bernoulli).startswith("≤≥ ")
    assert samples.equal_evaluations(rows, 1000) == pytest.approx((250 * 1000) ** 0.5, abs=1)
    assert samples.equal_evaluations(rows, 512) is None
    better = [row for row in rows if row["sampler"] == "Bernoulli"]
    better += curve_rows("Orthogonal", "cat", {100: 1.0, 1000: 0.5})
    better += curve_rows("Orthogonal", "cup", {100: 1.0, 1000: 0.5})
    assert samples.equal_evaluations(better, 1000) is None  # no curve comes down so far


def test_a_draw_that_begins_a_longer_one_is_not_scored_again():
    masks = torch.rand(6, 3) > 0.5
    asked = []

    def score(masks):
        asked.append(len(masks))
        return masks.double().sum(1).view(1, -1, 1)

    other = ~masks[:4]
    found = samples.scored(score, [masks[:2], other, masks])
    assert asked == [6, 4]
    for scores, drawn in zip(found, (masks[:2], other, masks), strict=True):
        assert torch.equal(scores[0, :, 0], drawn.double().sum(1))


def test_errors_are_of_their_photo_output_seed_and_kernel():
    """Coefficients of size 1 that are off by what names them, of a made-up fit."""
    photos = SimpleNamespace(
        names=("cat", "cup"),
        fits=lambda masks, scores, kernel: [
            1 + scores + (kernel is samples.KERNELS[1]) + 0.5 * s for s in range(2)
        ],
    )
    truths = [torch.ones(2, 2, 4), torch.ones(2, 2, 4)]

    def scores(seed, number):
        photo, output = torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")
        off = 1000 * photo + 100 * output + 10 * seed + number
        return off[..., None].expand(2, 2, 4).float()

    draws = [
        [(torch.ones(8 * (number + 1), 4), scores(seed, number)) for number in range(2)]
        for seed in range(3)
    ]
    rows = list(samples.rows_of(photos, draws, truths))
    assert len(rows) == 2 * 2 * 2 * 2 * 2  # kernels, numbers, surrogates, photos, outputs
    for row in rows:
        base = 1000 * (row["photo"] == "cup") + 100 * (row["output"] == "logit")
        base += (row["samples"] == 16) + (row["kernel"] == "WithoutUnmasked")
        base += 0.5 * row["surrogate"].startswith("Ridge")
        expected = [(base + 10 * seed) ** 2 for seed in range(3)]
        assert row["errors"] == pytest.approx(expected)
        assert row["top5"] == 1.0


def test_an_even_model_is_cancelled_and_an_odd_one_counts_twice(monkeypatch):
    def rows_of(f):
        photos = SimpleNamespace(
            names=("cat",),
            segments=SimpleNamespace(count=torch.tensor([16])),
            draw=lambda sampler, number, seed: sampler(torch.tensor([16]), 16, 1024, seed=1)[0],
            score=lambda masks: f(masks.double() - 0.5)[None, :, None].expand(1, -1, 2),
        )
        monkeypatch.setattr(residual, "Photos", lambda settings: photos)
        monkeypatch.setattr(residual, "KERNELS", [Uniform()])
        return residual.run(settings.Settings(torch.device("cpu")))

    even = rows_of(lambda z: z[:, 0] * z[:, 1] + z[:, 2])
    odd = rows_of(lambda z: z[:, 0] * z[:, 1] * z[:, 2] + z[:, 3])
    assert [row["even_share"] for row in even] == pytest.approx([1, 1], abs=0.01)
    assert [row["even_share"] for row in odd] == pytest.approx([0, 0], abs=0.01)
    assert [row["gain_of_pairs"] for row in odd] == pytest.approx([0.5, 0.5], rel=0.01)
    half = rows_of(lambda z: z[:, 0] * z[:, 1] + 2 * z[:, 2] * z[:, 3] * z[:, 4])
    assert [row["gain_of_pairs"] for row in half] == pytest.approx([1, 1], rel=0.01)


def test_the_bare_forwards_take_the_chunks_that_the_model_got():
    model = torch.nn.Conv2d(3, 1, 1)
    given = torch.rand(4, 3, 5, 6).contiguous(memory_format=torch.channels_last)

    def call():
        for _ in range(3):
            model(given)

    chunk, calls = overhead.seen(model, call)
    assert calls == 3
    assert torch.equal(chunk, given)
    assert chunk.stride() == given.stride()
    model(given)
    assert not model._forward_pre_hooks
