"""Calls of Captum's classes with drawn arguments, and how far ours are from theirs."""

import warnings
from dataclasses import dataclass, replace
from typing import Any

import captum.attr
import numpy as np
import torch
from captum._utils.models import linear_model
from captum.attr._core import lime as captums
from hypothesis import strategies as st

from torchlime.compat import captum as ours

KINDS = {torch.float32: 1.0, torch.float64: 1.0, torch.int64: 5.0, torch.bool: 2.0}
SHAPES = [(5,), (2, 3), (1, 3, 2), (0,), (2, 2, 2)]


class Black:
    """A smooth function of all inputs, [n,classes]; the further arguments move it."""

    def __init__(self, tail=(3,), reduce=None, row_only=False):
        self.tail = tail
        self.reduce = reduce
        self.row_only = row_only

    def __call__(self, *arguments):
        rows = max(len(a) for a in arguments if isinstance(a, torch.Tensor) and a.dim())
        total = torch.zeros(rows, dtype=torch.float64)
        for place, value in enumerate(arguments):
            if not isinstance(value, torch.Tensor):
                total = total + 0.1 * float(value if not isinstance(value, str) else len(value))
                continue
            flat = value.double().flatten(1) if value.dim() > 1 else value.double().reshape(-1, 1)
            weights = torch.linspace(-1, 1.3, flat.shape[1], dtype=torch.float64) + 0.2 * place
            total = total + flat @ weights + 0.3 * (flat @ weights.flip(0)).sin()
        number = int(np.prod(self.tail))
        steps = torch.linspace(0.5, 1.5, number, dtype=torch.float64)
        outputs = (total[:, None] * steps + steps.cos()).float().reshape(rows, *self.tail)
        if self.row_only and rows > 1:
            raise RuntimeError("one row at a time")
        return outputs if self.reduce is None else self.reduce(outputs)


REDUCED = {
    "rows": None,
    "batch": lambda out: out.sum(),
    "batch float": lambda out: float(out.sum()),
    "batch [1]": lambda out: out.sum().reshape(1),
}


@dataclass
class Call:
    """One call of one class, for Captum and for us."""

    kind: str
    function: Black
    inputs: Any
    arguments: dict
    model: str = "default"
    similarity: str = "default"
    perturb: str = "default"
    seed: int = 0

    def made(self, module):
        """The explainer of one of the two libraries."""
        mine = module is ours
        more = {"rng": "captum"} if mine else {}
        if self.kind == "KernelShap":
            return module.KernelShap(self.function, **more)
        names = ours if mine else linear_model
        return module.Lime(
            self.function,
            MODELS[self.model](names),
            SIMILARITIES[self.similarity](ours if mine else captums),
            PERTURBS[self.perturb],
            **more,
        )

    def run(self, module):
        """(result, explainer, a number drawn afterwards, the texts of warnings)."""
        torch.manual_seed(self.seed)
        explainer = self.made(module)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = explainer.attribute(self.inputs, **self.arguments)
        said = {str(w.message).split(",")[0][:40] for w in caught if w.category is UserWarning}
        return result, explainer, float(torch.rand(())), said


def every_subset(original, **kwargs):
    number = kwargs["num_interp_features"]
    for code in range(2**number):
        yield torch.tensor([[code >> i & 1 for i in range(number)]])


def few_kept(original, **kwargs):
    return (torch.rand(1, kwargs["num_interp_features"]) < 0.3).long()


def by_count(original, perturbed, sample, **kwargs):
    assert {"baselines", "feature_mask", "num_interp_features"} <= set(kwargs)
    return 0.1 + sample.float().mean()


MODELS = {
    "default": lambda names: None,
    "default to its end": lambda names: names.SkLearnLasso(alpha=0.01, tol=1e-12, max_iter=20000),
    "lasso": lambda names: names.SkLearnLasso(alpha=0.02, tol=1e-12, max_iter=20000),
    "ridge": lambda names: names.SkLearnRidge(alpha=0.5),
    "linear": lambda names: names.SkLearnLinearRegression(),
    "bayes": lambda names: names.SkLearnLinearModel("linear_model.BayesianRidge"),
}
SIMILARITIES = {
    "default": lambda names: None,
    "euclidean": lambda names: names.get_exp_kernel_similarity_function("euclidean", 4.0),
    "narrow": lambda names: names.get_exp_kernel_similarity_function("cosine", 0.3),
    "own": lambda names: by_count,
}
PERTURBS = {"default": None, "few": few_kept, "every": every_subset}


def batched(draw, batch, shape, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(batch, *shape, generator=generator, dtype=torch.float64) * KINDS[dtype]
    return values.to(dtype) if dtype.is_floating_point else values.floor().to(dtype)


def drawn_baseline(draw, tensor, seed):
    how = draw(st.sampled_from(["number", "one", "each"]))
    if how == "number":
        return draw(st.sampled_from([0, 1, 0.25] if tensor.is_floating_point() else [0, 1]))
    base = batched(draw, len(tensor) if how == "each" else 1, tensor.shape[1:], tensor.dtype, seed)
    return base


def drawn_mask(draw, tensor, number, gap):
    """Ids of one tensor: of the whole shape or of one that broadcasts, for all or each example."""
    shape = list(tensor.shape)
    if not draw(st.booleans()):
        shape[0] = 1
    axes = [i for i in range(1, len(shape)) if shape[i] > 1]
    if len(axes) > 1 and draw(st.booleans()):
        shape[draw(st.sampled_from(axes))] = 1
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    ids = torch.randint(0, number, shape, generator=generator) * gap
    return ids.to(draw(st.sampled_from([torch.int64, torch.int32])))


def drawn_target(draw, tail, batch):
    """One of Captum's forms, for outputs [n,*tail]."""
    if not tail:
        return None
    index = lambda: tuple(draw(st.integers(0, size - 1)) for size in tail)  # noqa: E731
    if len(tail) > 1:
        return draw(st.sampled_from([index(), [index() for _ in range(batch)]]))
    ints = [index()[0] for _ in range(batch)]
    forms = [ints[0], ints[0] - tail[0], (ints[0],), torch.tensor(ints[:1]), ints,
             torch.tensor(ints), [(i,) for i in ints]]  # fmt: skip
    forms += [torch.tensor(ints[0])] * (batch == 1)  # Captum takes its length
    return forms[draw(st.integers(0, len(forms) - 1))]


@st.composite
def calls(draw):
    """Any call that Captum answers."""
    kind = draw(st.sampled_from(["Lime", "Lime", "KernelShap"]))
    batch = draw(st.integers(1, 3))
    several = draw(st.sampled_from([0, 0, 2, 3]))
    seed = draw(st.integers(0, 10**6))
    shapes = [draw(st.sampled_from(SHAPES)) for _ in range(max(several, 1))]
    if all(0 in shape for shape in shapes):
        shapes[0] = (5,)
    tensors = tuple(
        batched(draw, batch, shape, draw(st.sampled_from(list(KINDS))), seed + i)
        for i, shape in enumerate(shapes)
    )
    scalar = draw(st.sampled_from(["rows"] * 4 + ["batch", "batch float", "batch [1]"]))
    if scalar == "batch float" and batch == 1:
        scalar = "rows"
    tail = draw(st.sampled_from([(), (3,), (2, 2)])) if scalar == "rows" else ()
    whole = scalar != "rows"
    per_eval = 1 if whole else draw(st.sampled_from([1, 1, 2, 7, 500]))
    arguments = {
        "n_samples": draw(st.integers(60, 90)),
        "perturbations_per_eval": per_eval,
        "return_input_shape": draw(st.booleans()),
        "target": drawn_target(draw, tail, batch),
    }
    if draw(st.booleans()):
        bases = tuple(drawn_baseline(draw, t, seed + 50 + i) for i, t in enumerate(tensors))
        arguments["baselines"] = bases if several else bases[0]
    if draw(st.booleans()):
        gap = draw(st.sampled_from([1, 1, 3]))
        masks = [drawn_mask(draw, t, draw(st.integers(2, 5)), gap) for t in tensors]
        least = draw(st.sampled_from([0, 0, 2, -1]))
        arguments["feature_mask"] = tuple(m + least for m in masks) if several else masks[0] + least
        ids = torch.cat([mask.flatten() for mask in masks])
        if not ids.max() > ids.min():  # Captum's KernelShap fails for one feature
            kind = "Lime"
    if draw(st.booleans()):
        extra = [batched(draw, batch, (2,), torch.float32, seed + 90), 0.5, "word"]
        extra += [torch.tensor(0.25)] * (batch == 1)  # Captum takes its length
        arguments["additional_forward_args"] = tuple(extra[: draw(st.integers(1, 4))])
    function = Black(tail, REDUCED[scalar], row_only=per_eval == 1 and batch == 1 and draw(st.booleans()))  # noqa: E501  # fmt: skip
    inputs = tensors if several else tensors[0]
    call = Call(kind, function, inputs, arguments, seed=seed)
    if kind == "Lime":
        call.model = draw(st.sampled_from(["default", "lasso", "ridge", "linear", "bayes"]))
        call.similarity = draw(st.sampled_from(["default", *SIMILARITIES]))
        call.perturb = draw(st.sampled_from(["default", "default", "default", "few"]))
    return call


def leaves(result):
    return result if isinstance(result, tuple) else (result,)


GATES = {
    "default": 1e-4,
    "default to its end": 1e-5,
    "lasso": 1e-5,
    "ridge": 1e-5,
    "linear": 1e-5,
    "bayes": 1e-4,
}


def gate_of(call):
    return 5e-3 if call.kind == "KernelShap" else GATES.get(call.model, 1e-5)


def difference(call):
    """The largest difference, relative to the largest coefficient, and its share of the gate.

    All else is asserted: types, shapes, dtypes, zeros, warnings, the random stream and what the
    model holds.
    """
    theirs, mine = call.run(captum.attr), call.run(ours)
    assert type(theirs[0]) is type(mine[0])
    assert mine[2] == theirs[2], "the random streams differ"
    assert mine[3] == theirs[3], (mine[3], theirs[3])
    held = [one[1].interpretable_model.representation() for one in (theirs, mine)]
    pairs = [*zip(leaves(theirs[0]), leaves(mine[0]), strict=True), tuple(held)]
    size = max(float(a.abs().max()) for a, _ in pairs if a.numel())
    worst = 0.0
    for a, b in pairs:
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert a.device == b.device
        assert not b.requires_grad
        if a.numel():
            worst = max(worst, float((a - b).abs().max()) / max(size, 1e-6))
    return worst


def is_captums(call):
    """Whether a call is within its gate.

    Captum's default Lasso stops at a gap of 1e-4 of the scores' variance. Where this is far from
    the optimum, it must come to our result when it goes on.
    """
    if difference(call) <= gate_of(call):
        return True
    if call.model != "default" or call.kind == "KernelShap":
        return False
    further = replace(call, model="default to its end")
    return difference(further) <= gate_of(further)
