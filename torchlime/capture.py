"""The same explanation again and again, for inputs of one shape: on a GPU, as CUDA graphs.

inputs, seed → **features, design** → rows, predictions, scores → **weights, coefficients**

What is bold launches hundreds of small kernels, and a GPU waits for the host to launch them. A
graph launches them at once. The forward passes between them stay as they are, since a model may do
what no graph can hold; with ``model_too`` they are captured as well. Without a GPU the same stages
run anew, and the numbers are those of a plain call.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from torchlime._checks import is_integer
from torchlime._kinds import check_through_input
from torchlime._networks import random_states
from torchlime._provenance import named
from torchlime._returns import check_fit, variance_factor
from torchlime._sampling import Sampling, drawn
from torchlime._several import leaves_of, mapped, names_of
from torchlime._undisturbed import undisturbed
from torchlime.black_box import Forward, Model
from torchlime.explanation import Explanation
from torchlime.features.given import segmented_features
from torchlime.local import fields_of, said_of
from torchlime.rounds import Once
from torchlime.strategies import Features, Kernel, Rounds, Sampler, Scores, Segmenter, Surrogate

READS = {  # these wait for the device, or the shape of their result depends on data
    "item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__",
    "__contains__", "cpu", "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive",
    "equal", "allclose",
}  # fmt: skip
DRAWS = {  # these take from a generator instead of the seed
    "rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm", "normal",
    "bernoulli", "multinomial", "poisson", "dropout", "uniform_", "normal_", "random_",
    "bernoulli_", "exponential_", "log_normal_", "cauchy_", "geometric_",
}  # fmt: skip
Work = Callable[[], None]


class Captured:
    """An explanation of inputs of one shape; :meth:`torchlime.Lime.capture` makes it.

    Convention:
        Inputs, seed, scores and all that follows from them keep their places in memory. A call
        copies into them, runs the stages, and returns copies. So calls must not overlap: make them
        from one thread and on one stream.

    Args:
        model, scores, sampler, num_samples, kernel, surrogate, rounds, forward, keep_samples: as
            for :func:`torchlime.local.local_fit`.
        inputs: a tensor [B,…], or several; they fix the shapes, dtypes and device.
        features: inputs → features.
        seed: of calls that give none.
        finish: explanation, seed → the explanation that a call returns.
        model_too: capture the forward passes too.

    Raises:
        ValueError: this cannot be captured; the message says why.
        RuntimeError: CUDA refused a capture; the message says of which part.
    """

    def __init__(
        self,
        model: Model,
        inputs: Any,
        features: Callable[[Any], Features],
        scores: Scores,
        *,
        sampler: Sampler,
        num_samples: int,
        kernel: Kernel,
        surrogate: Surrogate,
        rounds: Rounds = Once(),
        forward: Forward = Forward(),
        seed: int = 0,
        keep_samples: bool = False,
        model_too: bool = False,
        finish: Callable[[Explanation, int | Tensor], Explanation] = lambda made, _: made,
    ):
        _refuse(rounds, forward)
        self.model, self.scores, self.forward = model, scores, forward
        self.sampler, self.num_samples, self.seed = sampler, num_samples, seed
        self.kernel, self.surrogate, self.keep_samples = kernel, surrogate, keep_samples
        self._features_of, self._finish = features, finish
        first = leaves_of(inputs)[0]
        self.device = first.device
        with undisturbed(self.device):
            self.inputs = mapped(torch.clone, inputs)
            self._seeds = torch.full((len(first),), seed, dtype=torch.int64, device=self.device)
            self._capture(model_too)

    def __call__(self, images: Any, *, seed: int | Tensor | None = None) -> Explanation:
        """Explain inputs of the shapes, dtypes and device that were captured.

        Args:
            images: as in the capture.
            seed: an int, or an int64 tensor [B] on the device; None is the explainer's.

        Raises:
            TypeError, ValueError: images or seed are of another type, shape, dtype or device.
        """
        seed = self.seed if seed is None else seed
        _check_like(images, self.inputs, "images")
        if not is_integer(seed):
            _check_like(seed, self._seeds, "seed")
        with undisturbed(self.device):
            for own, given in zip(leaves_of(self.inputs), leaves_of(images), strict=True):
                own.copy_(given)
            seeds = seed if isinstance(seed, Tensor) else torch.full_like(self._seeds, int(seed))
            self._seeds.copy_(seeds)
            self._before()
        self._predict()  # outside, so that the caller's autocast holds
        with undisturbed(self.device):
            self._after()
            fields = tree_map_only(Tensor, torch.clone, self._fields)
        said = said_of(self.model, self.scores)
        made = Explanation(settings={}, kind=self._kind, **fields, **said)
        return self._finish(made, seed)

    def _capture(self, model_too: bool) -> None:
        """Run every part, and keep it as a graph where there is a GPU."""
        self._before = graphed(self._draw, self.device, "segments, masks and fill")
        self._before()  # a capture computes nothing
        self._scored: Any = None
        self._score()
        self._predict: Work = self._score
        if model_too and self.device.type != "cpu":
            self._predict = self._with_the_model()
        with _Refuse("what comes after the model"):
            self._fit()
        self._after = graphed(self._fit, self.device, "weights and fit")

    def _draw(self) -> None:
        """inputs, seed → features, design."""
        features: Any = self._features_of(self.inputs)
        self._kind = features.kind.drawn_by(self.sampler)
        check_through_input(self.surrogate, self._kind)
        # Our own samplers read on the host only where that is free, on a CPU.
        own = type(self.sampler).__module__.startswith("torchlime.")
        sampler = self.sampler if own else partial(watched, self.sampler)
        self._design = drawn(sampler, features, self.num_samples, self._seeds)
        rows, box = self._kind.rows(self._design, features.count), self._sampling_of(features).box
        if hasattr(features.rows(rows, box, 0), "lengths"):
            raise ValueError("rows of several lengths depend on the masks, which no graph can do")
        needs_energy = self.keep_samples or getattr(self.kernel, "needs_energy", False)
        self._features: Any = _Known(
            features,
            problems=features.problems(None if self._kind.beside else rows, box),
            energy=features.energy() if needs_energy else None,
        )

    def _score(self, ready: bool = False) -> None:
        """features, design → scores, in their places."""
        sampling = self._sampling_of(self._features)
        sampling.box.ready = ready
        with undisturbed(self.device):
            sampling.take(self._design)
            if self._scored is None:
                self._scored = tree_map_only(Tensor, torch.clone, sampling.scored)
            pairs = zip(tree_leaves(self._scored), tree_leaves(sampling.scored), strict=True)
            for own, found in pairs:
                own.copy_(found)
        sampling.scored = self._scored
        self._sampling = sampling

    def _fit(self) -> None:
        """scores → weights, coefficients."""
        samples, features = self._sampling.samples(), self._features
        count, used = features.count, self._design.shape[1]
        fit = self._kind.fit(self.surrogate, *samples[:3], count)
        factor = variance_factor(self.sampler, features.bound, used)
        fit = check_fit(fit, samples.scores, features.bound).scaled(factor)
        self._fields = fields_of(
            features, self._kind, self.surrogate, fit, samples, self.keep_samples
        )
        self._fields |= {"samples_used": torch.full_like(count, used), "variance_factor": factor}

    def _with_the_model(self) -> Work:
        """The forward passes as a graph; modes and random states are cared for around it."""
        box = self._sampling_of(self._features).box
        with box.prepared():
            replay = graphed(
                lambda: self._score(ready=True), self.device, "the model (leave out model_too)"
            )

        def replayed() -> None:
            rewind = random_states(self.device)
            replay()
            rewind()

        return replayed

    def _sampling_of(self, features: Any) -> Sampling:
        return Sampling(
            self.model, features, self._kind, self.scores, self.kernel, self.forward,
            self.keep_samples,
        )  # fmt: skip


def graphed(work: Work, device: torch.device, what: str) -> Work:
    """``work`` as a CUDA graph, which repeats its kernels on the same memory; on a CPU as it is."""
    if device.type == "cpu":
        return work
    try:
        with torch.cuda.device(device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # what a library does in its first calls
                work()
                work()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                work()
    except RuntimeError as error:
        raise RuntimeError(f"CUDA cannot capture {what}: {error}") from error
    return graph.replay


def static_features(inputs: Any, segmenter: Segmenter, fill: Any) -> Any:
    """Features by a segmenter; an error if it waits for the device."""

    def segment(images: Tensor) -> Any:
        found = watched(segmenter, images)
        if isinstance(found, Tensor):
            raise ValueError(
                f"{named(segmenter, str)} returns a label map, whose segments are counted on the "
                "host; no graph can hold that. Let it return Segments"
            )
        return found

    return segmented_features(inputs, segment, fill)


def watched(strategy: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """What a strategy returns; an error if it reads on the host or draws without the seed."""
    with _Refuse(named(strategy, str)):
        return strategy(*arguments, **keywords)


class _Known:
    """Features whose problems and energy are computed."""

    def __init__(self, features: Features, problems: Tensor, energy: Tensor | None):
        self._features, self._problems, self._energy = features, problems, energy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._features, name)

    def problems(self, design: Tensor | None, box: Any) -> Tensor:
        return self._problems

    def energy(self) -> Tensor | None:
        return self._energy


class _Refuse(TorchFunctionMode):
    """Raise where a tensor is read on the host or drawn by a generator, on any device."""

    def __init__(self, who: str):
        super().__init__()
        self.who = who

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in READS | DRAWS:
            why = "reads a tensor on the host" if name in READS else "draws without the seed"
            raise ValueError(
                f"{self.who} calls {name}(), which {why}; no graph can hold that. Capture with "
                "strategies of torchlime that run on the device, or use explain()"
            )
        return function(*args, **(kwargs or {}))


def _refuse(rounds: Rounds, forward: Forward) -> None:
    if not isinstance(rounds, Once):
        raise ValueError(
            f"capture takes rounds=Once(), got {rounds!r}: rounds that may stop early read on the "
            "host whether to go on"
        )
    if forward.differentiable:
        raise ValueError("capture cannot be differentiable: a graph holds no backward pass")


def _check_like(given: Any, own: Any, noun: str) -> None:
    """Raise unless ``given`` has the structure, shapes, dtypes and device of ``own``."""
    if names_of(given, noun) != (names := names_of(own, noun)):
        raise ValueError(f"{noun} must be {', '.join(names)}, as in the capture")
    for name, mine, theirs in zip(names, leaves_of(own), leaves_of(given), strict=True):
        if not isinstance(theirs, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(theirs).__name__}")
        if _look(mine) != _look(theirs):
            raise ValueError(
                f"{name} must be {_look(mine)}, as in the capture, got {_look(theirs)}; capture "
                "again for others"
            )


def _look(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)} on {tensor.device}"
