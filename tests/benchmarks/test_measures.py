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


def curve_rows(design, photo, errors):
    return [
        {"design": design, "surrogate": "Ridge(alpha=1.0)", "photo": photo, "dtype": "float32",
         "output": "probability", "samples": n, "errors": [e, e]}
        for n, e in errors.items()
    ]  # fmt: skip


def test_evaluations_for_equal_error():
    rows = curve_rows("lime's", "cat", {100: 0.4, 1000: 0.04})  # error 40 / N
    rows += curve_rows("stream", "cat", {100: 0.1, 1000: 0.01})  # error 10 / N
    rows += curve_rows("lime's", "cup", {100: 0.2, 1000: 0.02})
    rows += curve_rows("stream", "cup", {100: 0.2, 1000: 0.02})
    limes, stream = (
        samples.curves(rows, "probability", design) for design in (samples.LIMES, samples.STREAM)
    )
    needed, mark = curves.equal_error(100, stream, limes)
    assert needed == pytest.approx((400 * 100) ** 0.5, rel=1e-3)
    assert mark == ""
    # For the cat, lime's masks never reach the error of 1000 of the stream.
    assert curves.equal_error(1000, stream, limes) == (pytest.approx(1000), "≥")
    assert curves.times(1000, stream, limes) == "≥ 1.00"
    # The fewest of lime's masks have smaller errors than 100 of a bad design.
    bad = {"cat": [(100, 4.0), (1000, 0.01)], "cup": [(100, 4.0), (1000, 0.02)]}
    assert curves.times(100, bad, limes) == "≤ 1.00"
    assert curves.times(1000, bad, limes) == "≥ 1.00"
    mixed = {"cat": [(100, 4.0)], "cup": [(100, 0.001)]}
    assert curves.times(100, mixed, limes).startswith("≤≥ ")
    assert samples.equal_evaluations(rows, 1000) == pytest.approx((250 * 1000) ** 0.5, abs=1)
    assert samples.equal_evaluations(rows, 512) is None
    better = [row for row in rows if row["design"] == "lime's"]
    better += curve_rows("stream", "cat", {100: 1.0, 1000: 0.5})
    better += curve_rows("stream", "cup", {100: 1.0, 1000: 0.5})
    assert samples.equal_evaluations(better, 1000) is None  # no curve comes down so far


def test_samples_scores_each_mask_once_and_errs_as_the_model_is_curved(monkeypatch):
    """The probability of the photo is linear, the logit is not; bfloat16 adds a tenth to both."""
    asked = {None: [], torch.bfloat16: []}

    def score(masks, autocast=None):
        asked[autocast].append(masks)
        z = masks.double() - 0.5
        curve = 40 * z[:, 0] * z[:, 1] * z[:, 2]
        linear = z @ torch.arange(1.0, 7).double()
        return torch.stack([linear, linear + curve], dim=1)[None] * (1.1 if autocast else 1)

    photos = SimpleNamespace(
        names=["cat"],
        images=torch.zeros(1, 3, 2, 2),
        segments=SimpleNamespace(bound=6),
        draw=lambda sampler, number, seed: sampler(torch.tensor([6]), 6, number, seed=seed)[0],
        score=score,
    )
    monkeypatch.setattr(samples, "Photos", lambda settings, names: photos)
    monkeypatch.setattr(samples, "announce", lambda settings, photos, masks: None)
    asked_for = settings.Settings(torch.device("cpu"), quick=True, reference=256)
    rows = list(samples.rows_of_photo(asked_for, "cat"))
    for masks in asked.values():
        every = torch.cat(masks)
        assert len(every.unique(dim=0)) == len(every)
    full = samples.select(rows, dtype="float32")
    assert len(full) == 4 * 2 * 2 * 2  # designs, numbers, surrogates, outputs
    for row in samples.select(full, surrogate=str(samples.SURROGATES[0])):
        if row["output"] == "probability":
            assert max(row["errors"]) < 1e-20
        elif row["design"] in ("lime's", "Bernoulli"):  # the others may cancel the curve
            assert min(row["errors"]) > 1e-3
    half = samples.select(rows, dtype="bfloat16 autocast")
    assert {(row["design"], row["output"]) for row in half} == {
        (design, output) for design in ("lime's", "stream") for output in samples.OUTPUTS
    }
    for row in half:
        assert row["errors"] == pytest.approx([0.01, 0.01])
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
        monkeypatch.setattr(residual, "KERNEL", Uniform())
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
