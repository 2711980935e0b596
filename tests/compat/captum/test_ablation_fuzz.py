"""Drawn calls of FeatureAblation, Occlusion and ShapleyValueSampling, of Captum and of the drop-in.

``python -m tests.compat.captum.test_ablation_fuzz 1000`` makes as many and prints a table.
"""

import argparse
import math
import warnings
from collections import defaultdict

import captum.attr
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.compat.captum.drawn import (
    KINDS,
    batched,
    drawn_baseline,
    drawn_mask,
    drawn_target,
    leaves,
)
from torchlime.compat import captum as ours

CASES = 150
SHAPES = [(5,), (2, 3), (1, 3, 2), (2, 2, 2)]
METHODS = ["FeatureAblation", "Occlusion", "ShapleyValueSampling"]
REDUCED = {
    "batch": lambda out: out.sum(),
    "batch float": lambda out: float(out.sum()),
    "batch int": lambda out: int(10 * out.sum()),
    "batch [1]": lambda out: out.sum().reshape(1),
    "batch [4]": lambda out: out.flatten()[:1].repeat(4),
}
CASTS = {
    "float32": lambda out: out.float(),
    "float64": lambda out: out,
    "float16": lambda out: out.half(),
    "int64": lambda out: (100 * out).round().long(),
    "centred": lambda out: out - out.mean(0),  # a row depends on the others
}


class Function:
    """A smooth function of all arguments, [n,*tail], whose outputs are cast and then reduced."""

    def __init__(self, tail, cast, reduce):
        self.tail = tail
        self.cast = cast
        self.reduce = reduce

    def __call__(self, *arguments):
        total = torch.zeros(1, dtype=torch.float64)
        for place, value in enumerate(arguments):
            if not isinstance(value, torch.Tensor):
                total = total + 0.1 * float(value if not isinstance(value, str) else len(value))
                continue
            flat = value.double().reshape(len(value), -1)
            weights = torch.linspace(-1, 1.3, flat.shape[1], dtype=torch.float64) + 0.2 * place
            total = total + (flat * weights).sum(1) + 0.3 * (flat * weights.flip(0)).sum(1).sin()
        steps = torch.linspace(0.5, 1.5, math.prod(self.tail), dtype=torch.float64)
        outputs = (total[:, None] * steps + steps.cos()).reshape(len(total), *self.tail)
        outputs = CASTS[self.cast](outputs)
        return outputs if self.reduce == "rows" else REDUCED[self.reduce](outputs)


def windows(draw, tensors):
    shapes, strides = [], []
    for tensor in tensors:
        size = [draw(st.integers(1, n)) for n in tensor.shape[1:]]
        own = [draw(st.integers(1, n)) for n in size]
        shapes.append(tuple(size))
        strides.append(draw(st.sampled_from([min(own), tuple(own)])))
    return tuple(shapes), tuple(strides)


def with_mask(draw, method, tensors, one_mask, per_eval):
    """A feature mask in one of the forms that Captum answers rightly.

    Its FeatureAblation takes a mask of lower rank for one of several samples or outputs.
    """
    gap = draw(st.sampled_from([1, 1, 3]))
    masks = [drawn_mask(draw, tensor, draw(st.integers(1, 4)), gap) for tensor in tensors]
    masks = [mask[:1] for mask in masks] if one_mask else masks
    if method == "FeatureAblation":
        least = draw(st.sampled_from([0, 0, 2, -2]))
        masks = [mask + least for mask in masks]
        kind = draw(st.sampled_from([None, None, torch.float32]))
    else:
        kind = draw(st.sampled_from([None, None, torch.bool]))
    masks = [mask if kind is None else mask.to(kind) for mask in masks]
    broadcasts = method != "FeatureAblation" or per_eval == 1
    if broadcasts and all(len(mask) == 1 for mask in masks) and draw(st.booleans()):
        masks = [mask[0] for mask in masks]  # of lower rank: it is broadcast
    return tuple(masks)


@st.composite
def calls(draw):
    """Any call that Captum answers: method, function, inputs, arguments, seed."""
    method = draw(st.sampled_from(METHODS))
    batch, several = draw(st.integers(1, 3)), draw(st.sampled_from([0, 0, 2, 3]))
    seed = draw(st.integers(0, 10**6))
    tensors = tuple(
        batched(draw, batch, draw(st.sampled_from(SHAPES)), draw(st.sampled_from(list(KINDS))), i)
        for i in range(seed, seed + max(several, 1))
    )
    reduce = draw(st.sampled_from(["rows"] * 6 + list(REDUCED)))
    tail = draw(st.sampled_from([(), (3,), (2, 2)])) if reduce == "rows" else ()
    target = draw(st.booleans())
    cast = draw(st.sampled_from(["float32", "float32", *CASTS]))
    single = reduce != "rows" or cast == "centred"
    arguments = {"perturbations_per_eval": 1 if single else draw(st.sampled_from([1, 2, 7, 500]))}
    if tail and target:
        arguments["target"] = drawn_target(draw, tail, batch)
    if draw(st.booleans()):
        bases = tuple(drawn_baseline(draw, t, seed + 50 + i) for i, t in enumerate(tensors))
        arguments["baselines"] = bases if several else bases[0]
    if method == "Occlusion":
        shapes, strides = windows(draw, tensors)
        arguments["sliding_window_shapes"] = shapes if several else shapes[0]
        if draw(st.booleans()):
            arguments["strides"] = strides if several else strides[0]
        elif not several:  # what Captum reads as 1
            arguments["strides"] = None
    elif draw(st.booleans()):
        one_mask = reduce != "rows" or (tail != () and not target)
        per_eval = arguments["perturbations_per_eval"]
        masks = with_mask(draw, method, tensors, one_mask, per_eval)
        arguments["feature_mask"] = masks if several else masks[0]
    if method == "ShapleyValueSampling":
        arguments["n_samples"] = draw(st.integers(1, 4))
    if draw(st.booleans()):
        extra = (batched(draw, batch, (2,), torch.float32, seed + 90), 0.5, "word")
        arguments["additional_forward_args"] = extra[: draw(st.integers(1, 3))]
        if len(arguments["additional_forward_args"]) == 1 and draw(st.booleans()):
            arguments["additional_forward_args"] = extra[0]
    function = Function(tail, cast, reduce)
    return method, function, tensors if several else tensors[0], arguments, seed


def run(module, call):
    method, function, inputs, arguments, seed = call
    torch.manual_seed(seed)
    own = module is ours and method == "ShapleyValueSampling"
    explainer = getattr(module, method)(function, **({"rng": "captum"} if own else {}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = explainer.attribute(inputs, **arguments)
    said = {str(w.message)[:40] for w in caught if w.category is UserWarning}
    return result, float(torch.rand(())), said


def difference(call):
    """The largest difference, relative to the largest output; all else is asserted."""
    theirs, mine = run(captum.attr, call), run(ours, call)
    assert type(theirs[0]) is type(mine[0])
    assert mine[1] == theirs[1], "the random streams differ"
    _, function, inputs, arguments, _ = call
    gaps = {
        "Feature mask is missing some integers be"
    }  # Captum warns if a whole call has no feature
    unsaid = gaps if arguments["perturbations_per_eval"] > 1 else set()
    assert mine[2] - unsaid == theirs[2] - unsaid, (mine[2], theirs[2])
    further = arguments.get("additional_forward_args", ())
    further = further if isinstance(further, tuple) else (further,)
    outputs = torch.as_tensor(function(*leaves(inputs), *further))
    size = max(float(outputs.double().abs().max()), 1.0)
    worst = 0.0
    for a, b in zip(leaves(theirs[0]), leaves(mine[0]), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        worst = max(worst, float((a.double() - b.double()).abs().max()) / size)
    gate = 1e-12 if a.dtype == torch.float64 else 1e-6
    return worst, 2e-3 if function.cast == "float16" else gate  # Captum adds in float16 there


QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=CASES, derandomize=True, print_blob=False, **QUIET)
@given(calls())
def test_the_drop_in_gives_captums_numbers(call):
    found, gate = difference(call)
    assert found <= gate


def table(cases):
    """For each method and argument: how many calls there were, and the largest difference."""
    found = defaultdict(list)

    @settings(max_examples=cases, phases=[Phase.generate], **QUIET)
    @given(calls())
    def one(call):
        worst, gate = difference(call)
        method, function, inputs, arguments, _ = call
        found[method, "all"].append((worst, gate))
        found["outputs", f"{function.cast}, {function.reduce}"].append((worst, gate))
        found["inputs", "tuple" if isinstance(inputs, tuple) else "tensor"].append((worst, gate))
        for name in arguments:
            found["argument", name].append((worst, gate))

    one()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int, nargs="?", default=CASES)
    for (kind, name), values in sorted(table(parser.parse_args().cases).items()):
        over = sum(value > gate for value, gate in values)
        worst = max(value / gate for value, gate in values)
        print(f"{kind:22} {name:26} {len(values):5} calls  {worst:.2f} of the gate  {over} over")
