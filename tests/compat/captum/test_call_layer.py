"""The call layer: arguments, chunks and scores, without any method."""

import itertools

import pytest
import torch

from torchlime.compat.captum.arguments import Further, as_inputs
from torchlime.compat.captum.calling import Calls
from torchlime.compat.captum.feature_masks import as_columns
from torchlime.compat.captum.perturbed import Perturbed
from torchlime.compat.captum.scoring import Scoring
from torchlime.compat.captum.targets import Targets

DTYPES = [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64]


def design(batch, samples, number, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, samples, number, generator=generator) < 0.5


def captums_rows(tensor, base, ids, masks):
    """One row at a time: kept · x + hidden · baseline, as Captum's documentation defines it."""
    rows = []
    for kept in masks:
        chosen = kept[ids]
        rows.append(chosen.to(tensor.dtype) * tensor + (~chosen).to(tensor.dtype) * base)
    return torch.cat(rows)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("base", ["none", "number", "tensor", "wide"])
def test_rows_are_those_of_captums_definition(dtype, base):
    x = (torch.rand(3, 4, 2) * 3).to(dtype)
    given = {"none": None, "number": 2, "tensor": torch.ones(1, 4, 2), "wide": x.flip(0)}[base]
    inputs = as_inputs(x, given)
    columns = as_columns(torch.arange(4).view(1, 4, 1), inputs)
    masks = design(3, 5, 4)
    blocks = [(slice(0, 2), slice(0, 1)), (slice(2, 3), slice(1, 5))]
    (rows,) = Perturbed(inputs, columns, masks)(blocks, 6)
    expected = []
    for example, samples in [(0, slice(0, 1)), (1, slice(0, 1)), (2, slice(1, 5))]:
        own = inputs.example(example)
        (b,) = own.baselines
        expected.append(captums_rows(own.tensors[0], b, columns.ids[0], masks[example, samples]))
    expected = torch.cat(expected)
    assert rows.dtype == expected.dtype
    assert torch.equal(rows, expected)


def test_ids_are_global_and_output_takes_the_inputs_shape():
    inputs = as_inputs((torch.zeros(2, 3), torch.zeros(2, 2, 2, dtype=torch.bool)))
    columns = as_columns((torch.tensor([[0, 1, 1]]), torch.tensor([[[2], [0]]])), inputs)
    assert columns.number == 3
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    first, second = columns.shaped(values, inputs)
    assert first.tolist() == [[1, 2, 2], [4, 5, 5]]
    assert second.tolist() == [[[3, 3], [1, 1]], [[6, 6], [4, 4]]]
    several = columns.shaped(values[:, None].expand(2, 4, 3), inputs)
    assert several[1].shape == (2, 4, 2, 2)
    assert torch.equal(several[1][:, 3], second)


def test_without_a_mask_every_scalar_is_a_feature_also_of_empty_tensors():
    inputs = as_inputs((torch.zeros(1, 0), torch.zeros(1, 2), torch.zeros(1, 3)))
    columns = as_columns(None, inputs)
    assert columns.number == 5
    assert [ids.tolist() for ids in columns.ids] == [[[]], [[0, 1]], [[2, 3, 4]]]


def test_a_mask_that_does_not_begin_at_0_is_shifted_with_captums_warning():
    with pytest.warns(UserWarning, match="Minimum element in feature mask is not 0"):
        columns = as_columns(torch.tensor([[3, 5]]), as_inputs(torch.zeros(2, 2)))
    assert columns.ids[0].tolist() == [[0, 2]]
    assert columns.number == 3


MISTAKES = {
    "a list": (lambda: as_inputs([torch.ones(1, 2)]), AssertionError, "inputs must be a torch.Ten"),
    "no example": (lambda: as_inputs(torch.ones(0, 2)), AssertionError, "at least one example"),
    "two batches": (lambda: as_inputs((torch.ones(2, 2), torch.ones(3, 2))), ValueError, "axis 0"),
    "a baseline": (lambda: as_inputs(torch.ones(1, 2), "0"), AssertionError, r"baselines\[0\]"),
    "few": (lambda: as_inputs((torch.ones(1, 2),) * 2, (0,)), IndexError, "tuple of 2"),
    "cut": (lambda: as_inputs(torch.ones(3, 2, 3), torch.ones(3)), ValueError, "ambiguous"),
    "a float mask": (lambda: as_columns(torch.ones(1, 2), as_inputs(torch.ones(1, 2))), IndexError,
                     "must hold integers, got torch.float32"),
    "a mask cut by rows": (
        lambda: as_columns(torch.zeros(4, 4).long(), as_inputs(torch.ones(4, 3, 4, 4))), ValueError,
        r"feature_mask of shape \[4, 4\] is ambiguous"),
    "a target": (lambda: Targets(1.5, torch.device("cpu"), 1), AssertionError, "target must be"),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_get_captums_class_and_a_sentence(what):
    call, kind, words = MISTAKES[what]
    with pytest.raises(kind, match=words):
        call()


def linear(x, *further):
    weights = torch.linspace(-1, 1, x[0].numel() * 3, dtype=torch.float64)
    return x.flatten(1).double() @ weights.view(-1, 3) + sum(
        f.flatten(1).sum(1, True) for f in further
    )


TARGETS = [1, -1, torch.tensor(2), torch.tensor([1]), [0, 2, 1], torch.tensor([2, 0, 1]),
           [(0,), (2,), (-1,)], [(0,), (slice(1, 2),), (2,)], (1,)]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize("further", [None, "tensor", "whole"])
def test_scores_do_not_depend_on_how_rows_are_called(target, size, further):
    x = torch.randn(3, 4)
    extra = {"tensor": torch.randn(3, 2), "whole": torch.randn(1, 1), None: None}[further]
    calls = Calls(linear, as_inputs(x), target, extra)
    assert calls.further.by_row == (further != "whole")
    columns, masks = as_columns(None, calls.inputs), design(3, 7, 4)
    found = Scoring(calls, size)(lambda box: Perturbed(calls.inputs, columns, masks, box), 7)
    assert found.shape == (3, 7, 1)
    for b, n in itertools.product(range(3), range(7)):
        own = () if extra is None else (extra[b : b + 1] if further == "tensor" else extra,)
        outputs = linear(torch.where(masks[b, n], x[b], 0.0)[None], *own)
        mine = target[b : b + 1] if isinstance(target, list) else target
        if isinstance(target, torch.Tensor) and target.numel() > 1:
            mine = target[b : b + 1]
        assert found[b, n, 0] == Targets(mine, x.device, 1)(outputs, None).item()


def test_several_targets_of_each_example():
    outputs = torch.arange(8.0).view(2, 4)
    targets = Targets(torch.tensor([[0, 3], [2, 1]]), outputs.device, 2)
    assert targets.several == 2
    assert targets(outputs, torch.tensor([1, 0])).tolist() == [[2, 1], [4, 7]]


@pytest.mark.parametrize("forward", [lambda x: x[0].sum(), lambda x: float(x.sum()),
                                     lambda x: x.view(1, 4).sum(1)])  # fmt: skip
def test_a_function_of_one_row_gets_one_row(forward):
    x = torch.randn(2, 4, dtype=torch.float64)
    calls = Calls(forward, as_inputs(x))
    columns, masks = as_columns(None, calls.inputs), design(2, 5, 4)
    found = Scoring(calls)(lambda box: Perturbed(calls.inputs, columns, masks, box), 5)
    expected = torch.where(masks, x[:, None], 0.0).sum(2)
    torch.testing.assert_close(found[..., 0], expected.double())


def test_outputs_that_are_not_one_a_row_are_refused():
    calls = Calls(lambda x: x, as_inputs(torch.randn(1, 4)))
    columns, masks = as_columns(None, calls.inputs), design(1, 5, 4)
    with pytest.raises(AssertionError, match="Number of outputs is not appropriate"):
        Scoring(calls)(lambda box: Perturbed(calls.inputs, columns, masks, box), 5)


def test_a_sample_of_the_whole_batch_takes_one_call():
    x, seen = torch.randn(3, 4, dtype=torch.float64), []

    def loss(x):
        seen.append(len(x))
        return x.sum()

    calls = Calls(loss, as_inputs(x))
    columns, masks = as_columns(None, calls.inputs), design(1, 5, 4)
    rows = Perturbed(calls.inputs, columns, masks.expand(3, -1, -1), whole=True)
    found = Scoring(calls).of_batch(lambda box: rows, 5)
    expected = torch.where(masks, x[:, None], 0.0).sum((0, 2))
    torch.testing.assert_close(found[0, :, 0], expected.double())
    assert seen == [3] * 5


def test_further_arguments_are_repeated_as_captum_repeats_them():
    further = Further((torch.arange(3), [7, 8, 9], torch.tensor(5), "word"), 3)
    assert not further.by_row  # the list
    tensor, listed, number, word = further.of_example(1, 2)
    assert tensor.tolist() == [1, 1]
    assert (listed, int(number), word) == ([8], 5, "word")
    assert Further(torch.ones(3), 3).of_rows(torch.tensor([2, 0]))[0].shape == (2,)
