"""The same explanation again and again, for inputs of one shape: on a GPU, as CUDA graphs.

inputs, seed → **features, design** → rows, predictions, scores → **weights, coefficients**

The stages in bold launch hundreds of small kernels, and a GPU waits for the host to launch them. A
CUDA graph launches them at once. The forward passes in between are not captured, since a model may
do what no graph can hold; with ``model_too`` they are captured as well. Without a GPU the same
stages run again in every call, and the numbers are those of a plain call.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Never, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from torchlime._hash import seeds_of
from torchlime._kinds import check_through_input
from torchlime._labelmap import warn_of_one_segment
from torchlime._networks import random_states
from torchlime._provenance import named
from torchlime._returns import check_fit, variance_factor
from torchlime._sampling import Sampling, drawn
from torchlime._several import beside, is_several, leaves_of, like, mapped, names_of
from torchlime._softmap import is_soft
from torchlime._undisturbed import undisturbed
from torchlime.black_box import Forward, Model, autocast_around
from torchlime.explanation import Explanation
from torchlime.features.given import segmented_features
from torchlime.local import fields_of, said_of
from torchlime.rounds import Once
from torchlime.strategies import Features, Kernel, Rounds, Sampler, Scores, Segmenter, Surrogate

READS = {  # these wait for the device, or the shape of their result depends on data
    "item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__",
    "__contains__", "cpu", "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive",
    "equal", "allclose", "is_nonzero", "bincount", "inverse", "linalg_inv", "linalg_solve",
    "linalg_cholesky", "linalg_eigh", "linalg_svd", "linalg_lstsq", "linalg_pinv",
}  # fmt: skip
DRAWS = {  # these take from a generator instead of the seed
    "rand", "rand_like", "randn", "randn_like", "randint", "randint_like", "randperm", "normal",
    "bernoulli", "multinomial", "poisson", "dropout", "uniform_", "normal_", "random_",
    "bernoulli_", "exponential_", "log_normal_", "cauchy_", "geometric_",
}  # fmt: skip
UPLOADS = {"tensor", "as_tensor", "asarray", "new_tensor", "from_numpy"}
Work = Callable[[], None]
_one_capture = threading.RLock()  # torch takes one at a time in a process


class Captured:
    """An explanation of inputs of one shape; :meth:`torchlime.Lime.capture` makes it.

    Convention:
        Inputs, seed, scores and everything that is computed from them keep their places in memory.
        A call copies its inputs there, runs the stages, and returns copies. So calls must not
        overlap: make them from one thread and on one stream.

    Args:
        model, scores, sampler, num_samples, kernel, surrogate, rounds, forward, keep_samples: as
            for :func:`torchlime.local.local_fit`.
        inputs: a tensor [B,…], or several; they fix the shapes, dtypes and device.
        features: inputs → features.
        seed: the seed of calls that give no seed.
        finish: explanation, seed → the explanation that a call returns.
        model_too: capture the forward passes too.

    Raises:
        ValueError: this cannot be captured; the message says why.
        RuntimeError: CUDA refused a capture; the message says which part it refused.
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
        self._free = threading.Lock()
        first = leaves_of(inputs)[0]
        self.device = first.device
        self._around, self._fixed = autocast_around(self.device), False
        if model_too and forward.autocast is None:
            self._fixed, self.forward = True, replace(forward, autocast=self._around)
        with undisturbed(self.device):
            self.inputs = mapped(torch.clone, inputs)
            self._seeds = first.new_zeros(len(first), dtype=torch.int64)
            self._seeds.copy_(seeds_of(seed, self._seeds))
            self._capture(model_too)

    def __call__(
        self, images: Any, *, seed: int | Tensor | None = None, **others: Never
    ) -> Explanation:
        """Explain inputs of the shapes, dtypes and device that were captured.

        Args:
            images: as in the capture.
            seed: an int, or an int64 tensor [B] on the device; None = the explainer's seed.

        Raises:
            TypeError, ValueError: images or seed have another type, shape, dtype or device.
            RuntimeError: calls overlap; or weights of a captured model have moved.
        """
        for name in others:
            raise TypeError(
                f"a captured call takes images and seed, got {name!r}; the capture fixes all other "
                "settings, so capture again to change them"
            )
        if not self._free.acquire(blocking=False):
            raise RuntimeError(
                "calls of one capture share its memory, so they must not overlap; capture one for "
                "each thread"
            )
        try:
            return self._explained(images, self.seed if seed is None else seed)
        finally:
            self._free.release()

    def __reduce__(self) -> NoReturn:
        """Raise."""
        raise TypeError(
            "what was captured lies in the memory of this process, so that it cannot be copied or "
            "pickled; capture again"
        )

    def _explained(self, images: Any, seed: int | Tensor) -> Explanation:
        self._check_autocast()
        given = _like(self.inputs, images, "images")
        seeds = seeds_of(seed, self._seeds)
        with undisturbed(self.device):
            for own, new in zip(leaves_of(self.inputs), given, strict=True):
                own.copy_(new)
            self._seeds.copy_(seeds)
            self._before()
        self._predict()  # outside, so that the caller's autocast holds
        with undisturbed(self.device):
            self._after()
            fields = tree_map_only(Tensor, torch.clone, self._fields)
        said = said_of(self.model, self.scores)
        made = Explanation(settings={}, kind=self._kind, **fields, **said)
        return self._finish(made, seed)

    def _check_autocast(self) -> None:
        around = autocast_around(self.device)
        if self._fixed and around != self._around:
            raise ValueError(
                f"autocast around the call must be {self._around}, as in the capture, got {around}:"
                " with model_too the model is captured with it. Set the explainer's autocast="
            )

    def _capture(self, model_too: bool) -> None:
        """Run every part, and keep it as a graph if there is a GPU."""
        self._before = graphed(self._draw, self.device, "segments, masks and fill")
        self._before()  # a capture computes nothing
        rows = self._kind.rows(self._design, self._features.count)
        if hasattr(self._features.rows(rows, self._sampling_of(self._features).box, 0), "lengths"):
            raise ValueError("rows of several lengths depend on the masks, which no graph can do")
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
        sampler = unless_own(self.sampler)
        self._design = drawn(sampler, features, self.num_samples, self._seeds)
        rows, box = self._kind.rows(self._design, features.count), self._sampling_of(features).box
        needs_energy = self.keep_samples or getattr(self.kernel, "needs_energy", False)
        self._features: Any = _Known(
            features,
            problems=features.problems(None if self._kind.beside else rows, box),
            energy=features.energy() if needs_energy else None,
        )

    def _score(self, ready: bool = False) -> None:
        """features, design → scores, written to their places in memory."""
        sampling = self._sampling_of(self._features)
        sampling.box.ready = ready
        with undisturbed(self.device):
            sampling.take(self._design)
            if self._scored is None:
                self._scored = tree_map_only(Tensor, torch.clone, sampling.scored)
            pairs = zip(tree_leaves(self._scored), tree_leaves(sampling.scored), strict=True)
            for own, found in pairs:
                _check_look(own, found, "scores")
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
        """The forward passes as a graph; modes and random states are restored after it."""
        box = self._sampling_of(self._features).box

        def score() -> None:
            # Casts of weights that autocast kept would be freed, and be those of old weights.
            torch.clear_autocast_cache()
            self._score(ready=True)
            torch.clear_autocast_cache()

        with box.prepared():
            replay = graphed(score, self.device, "the model (leave out model_too)")
        places = _places(box.networks)

        def replayed() -> None:
            if _places(box.networks) != places:
                raise RuntimeError(
                    "weights of the model have moved in memory since the capture (for example by "
                    ".to(), or because a layer was replaced), so its graph does not see them; "
                    "capture again, or change weights in place"
                )
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
    """``work`` as a CUDA graph, which repeats its kernels in place; on a CPU ``work`` itself."""
    if device.type == "cpu":
        return work
    try:
        with (
            _one_capture,
            torch.cuda.device(device),
            torch.cuda.stream(torch.cuda.current_stream()),  # it comes back where a capture fails
        ):
            side = torch.cuda.Stream()  # by itself a graph may take one of another device
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # what a library does in its first calls
                work()
                work()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with (
                _own_workspaces(),
                torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"),
            ):
                work()
    except RuntimeError as error:
        raise RuntimeError(f"CUDA cannot capture {what}: {error}") from error
    return graph.replay


@contextlib.contextmanager
def _own_workspaces() -> Iterator[None]:
    """Let what is captured take cuBLAS workspaces from the memory of its graph.

    A workspace that a library keeps for a stream would be shared with graphs that run at the same
    time, and may be freed by ``torch.compile``, which clears them all. Then a graph would go on
    writing to memory that is another's.
    """
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


def static_features(inputs: Any, segmenter: Segmenter, fill: Any) -> Any:
    """Features from a segmenter; an error if the segmenter waits for the device."""

    def segment(images: Tensor) -> Any:
        found = watched(segmenter, images)
        if isinstance(found, Tensor) and not is_soft(found):
            raise ValueError(
                f"{named(segmenter, str)} returns a label map, whose segments are counted on the "
                "host; no graph can hold that. Let it return Segments"
            )
        return found

    features = segmented_features(inputs, segment, watched_fills(fill))
    warn_of_one_segment(features.count, features.bound)
    return features


def watched_fills(fill: Any) -> Any:
    """One fill or several, each with an error as :func:`watched`; tensors and None stay."""
    return like(fill, [unless_own(one) if callable(one) else one for one in leaves_of(fill)])


def unless_own(strategy: Callable[..., Any]) -> Callable[..., Any]:
    """A strategy that is watched; those of torchlime read on a host only where that is free."""
    own = type(strategy).__module__.startswith("torchlime.")
    return strategy if own else partial(watched, strategy)


def watched(strategy: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """What a strategy returns; an error if it reads on the host or does not draw by the seed."""
    with _Refuse(named(strategy, str)):
        return strategy(*arguments, **keywords)


class _Known:
    """Features whose problems and energy were computed before."""

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
        if why := _why_not(name, args, kwargs or {}):
            raise ValueError(
                f"{self.who} calls {name}(), which {why}; no graph can hold that. Capture with "
                "strategies of torchlime that run on the device, or use explain()"
            )
        return function(*args, **(kwargs or {}))


def _why_not(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """What a call does that no graph can hold, on a GPU; None if nothing."""
    if name in READS:
        return "reads a tensor on the host"
    if name in DRAWS:
        return "draws without the seed"
    if name in UPLOADS:
        given = [*args[name == "new_tensor" :], kwargs.get("data", kwargs.get("obj"))][0]
        return None if isinstance(given, Tensor | int | float) else "copies numbers from the host"
    if name == "__getitem__":
        places = args[1] if isinstance(args[1], tuple) else (args[1],)
        if any(isinstance(place, list) for place in places):
            return "copies numbers from the host"
        if any(isinstance(p, Tensor) and p.dtype == torch.bool and p.dim() for p in places):
            return "reads a tensor on the host"
    return None


def _places(networks: Sequence[nn.Module]) -> list[int]:
    """Where the weights and buffers of networks lie in memory."""
    modules = (module for network in networks for module in network.modules())
    held = (value for m in modules for value in (*m._parameters.values(), *m._buffers.values()))
    return [value.untyped_storage()._cdata for value in held if value is not None]


def refuse_others(others: Mapping[str, object]) -> None:
    """Raise where a capture is given what only ``explain()`` takes."""
    for name in others:
        raise TypeError(
            f"capture() has no keyword {name!r}; it takes targets, top, keep_samples and "
            "model_too. Each call takes a seed, the segmenter may return your own Segments, and "
            "the other settings are Lime's; use explain() for the rest, which no graph can hold"
        )


def _refuse(rounds: Rounds, forward: Forward) -> None:
    if not isinstance(rounds, Once):
        raise ValueError(
            f"capture takes rounds=Once(), got {rounds!r}: rounds that may stop early read on the "
            "host whether to go on; use explain() for them"
        )
    if forward.differentiable:
        raise ValueError("capture cannot be differentiable: a graph holds no backward pass")


def _like(own: Any, given: Any, noun: str) -> list[Tensor]:
    """The tensors of ``given``; an error unless they look like those of ``own``."""
    if is_several(own):
        leaves = beside(given, own, noun, "a tensor")
    elif is_several(given):
        got = type(given).__name__
        raise ValueError(f"{noun} must be one tensor, as in the capture, got {got}")
    else:
        leaves = [given]
    for name, mine, theirs in zip(names_of(own, noun), leaves_of(own), leaves, strict=True):
        if not isinstance(theirs, Tensor):
            raise TypeError(
                f"{name} must be a tensor on {mine.device}, as in the capture, got "
                f"{type(theirs).__name__}; convert it first"
            )
        _check_look(mine, theirs, name)
    return leaves


def _check_look(own: Tensor, given: Tensor, name: str) -> None:
    if _look(own) != _look(given):
        raise ValueError(
            f"{name} must be {_look(own)}, as in the capture, got {_look(given)}; capture again "
            "for others"
        )


def _look(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)} on {tensor.device}"
