"""Kernels outside the model have a budget; fake CUDA tensors count them on any machine."""

import dataclasses

import pytest
import torch

from benchmarks.launches import CHANGES, cases, counted, explain, measured, named
from benchmarks.results import rows
from benchmarks.settings import RESULTS
from torchlime import Lime, fills, masks, segments, surrogates, weights
from torchlime.masks import Bernoulli
from torchlime.segments import Grid, Slic
from torchlime.surrogates import BayesianRidge, Lasso, MarginalMean, SignEntropy

BUDGET = {
    "segments": 274,
    "masks": 47,
    "fill": 13,
    "rows": 11,
    "scores": 7,
    "weights": 7,
    "surrogate": 70,
    "rest": 20,
}


ON_THE_HOST = {"FastSlic", "ScikitSlic"}


@pytest.mark.parametrize(
    ("field", "module"),
    [
        ("segmenter", segments), ("sampler", masks), ("fill", fills), ("kernel", weights),
        ("surrogate", surrogates),
    ],
)  # fmt: skip
def test_every_strategy_is_counted(field, module):
    public = {
        name
        for name, kind in vars(module).items()
        if dataclasses.is_dataclass(kind) and any("__call__" in vars(k) for k in kind.__mro__)
    }
    counted = {type(getattr(Lime(**changed), field)).__name__ for changed in CHANGES}
    laws = {name for name in public if name.endswith("Law") and name != "SizeLaw"}
    assert public - laws - ON_THE_HOST <= counted


def test_the_table_has_a_row_for_every_case():
    keys = "what", "batch", "samples", "dtype"
    published = [{key: row[key] for key in keys} for row in rows("launches", RESULTS)]
    assert published == [named(case) for case in cases()]


@pytest.mark.parametrize(
    "case",
    [case for case in cases() if case[1] == 1],
    ids=lambda case: "-".join(str(value) for value in named(case).values()),
)
def test_the_table_says_what_is_counted_today(case):
    """If this fails: python -m benchmarks launches --threads 1 && python -m benchmarks report."""
    pytest.importorskip("kornia")  # outside the counter, since it makes tensors
    (row,) = (row for row in rows("launches", RESULTS) if row | named(case) == row)
    assert row == named(case) | measured(case)


def test_what_counts():
    def call():
        x = torch.empty(4, 8, device="cuda")
        torch.ones(3)  # on the host
        (x.expand(2, 4, 8)[0].mT + 1)[:, 0].view(-1)

    launches = counted(call)
    assert launches.kernels == {"rest": 1}
    assert launches.bytes == {"rest": 2 * 4 * 32}


def test_the_default_explanation_stays_within_its_budget():
    kernels = counted(lambda: explain(Lime(num_samples=512), 1)).kernels
    over = {stage: number for stage, number in kernels.items() if number > BUDGET[stage]}
    assert over == {}


@pytest.mark.parametrize(("size", "most"), [((224, 224), 274), ((225, 231), 296)])
def test_slic(size, most):
    def call():
        Slic(50)(torch.empty(1, 3, *size, device="cuda"))

    assert counted(call).kernels["segments"] <= most


def test_operators_without_a_result_count():
    def call():
        torch._foreach_add_([torch.empty(4, device="cuda")], 1.0)

    launches = counted(call)
    assert launches.kernels == {"rest": 1}
    assert launches.bytes == {"rest": 16}


def test_what_is_written_to_counts_once():
    def call():
        torch.neg(torch.empty(4, device="cuda"), out=torch.empty(4, device="cuda"))

    assert counted(call).bytes == {"rest": 32}


@pytest.mark.parametrize(
    ("surrogate", "most"),
    [
        (Lasso(fraction=0.1), 790), (BayesianRidge(), 970), (BayesianRidge(0.0, 1.0, 1.0), 85),
        (MarginalMean(), 55), (MarginalMean(difference=True), 100), (SignEntropy(), 230),
    ],
    ids=repr,
)  # fmt: skip
def test_the_other_surrogates_stay_within_their_budgets(surrogate, most):
    explainer = Lime(num_samples=512, surrogate=surrogate)
    assert counted(lambda: explain(explainer, 1)).kernels["surrogate"] <= most


@pytest.mark.parametrize("batch", [1, 8])
def test_a_further_chunk_costs_three_kernels(batch):
    def kernels(chunks):
        explainer = Lime(segmenter=Grid(7, 7), sampler=Bernoulli(), num_samples=256 * chunks)
        return counted(lambda: explain(explainer, batch)).kernels.total()

    assert kernels(6) - kernels(4) <= 3 * 2 * batch


@pytest.mark.parametrize(
    ("dtype", "most"), [(None, 1.2), (torch.float32, 1.25), (torch.bfloat16, 1.5)]
)
def test_rows_move_few_more_bytes_than_their_one_write(dtype, most):
    """A classifier's normalisation is counted with them."""
    moved = counted(lambda: explain(Lime(num_samples=512), 1, dtype=dtype)).bytes["rows"]
    write = 512 * 3 * 224**2 * (2 if dtype == torch.bfloat16 else 4)
    assert write < moved <= most * write


@pytest.mark.parametrize("batch", [2, 32])
def test_kernels_of_the_stages_do_not_grow_with_the_batch(batch):
    kernels = counted(lambda: explain(Lime(num_samples=64), batch)).kernels
    once = counted(lambda: explain(Lime(num_samples=64), 2)).kernels
    for stage in ("segments", "masks", "fill", "weights", "surrogate"):
        assert kernels[stage] == once[stage]
