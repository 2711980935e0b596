"""LIME of token ids: networks that take what a tokenizer makes of a text."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from torchlime._checks import check_callables, check_count, is_integer
from torchlime._inputs import as_extra
from torchlime._kinds import Masks
from torchlime._labelmap import as_segments
from torchlime._names import TextNames
from torchlime._resuming import check_settings, made_by
from torchlime._settings import Settings, check_keywords
from torchlime._taking import check_rounds_setting
from torchlime._undisturbed import undisturbed
from torchlime.black_box import Forward, Model, Progress
from torchlime.explanation import Explanation
from torchlime.features import Entries
from torchlime.local import local_fit
from torchlime.masks import RandomSize
from torchlime.rounds import Once
from torchlime.strategies import Kernel, Rounds, Sampler, Surrogate
from torchlime.surrogates import Ridge
from torchlime.targets import Targets, scores_of, words_of_scores
from torchlime.weights import Exponential

KEPT = -1  # the group of tokens that are always shown
TOKENS = Masks("token", "text")


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenLime(Settings):
    """The settings of an explanation of token ids; :meth:`explain` runs it.

    A hidden token is replaced by another, such as the mask token. Nothing leaves the device of the
    ids: no string is made. This is several times as fast as a function of strings
    (:class:`torchlime.TextLime`).

    Args:
        hide: the id that replaces a hidden token, such as ``tokenizer.mask_token_id``.
        num_samples: N, rows of ids for each text (the text itself included).
        sampler: count → masks.
        kernel: masks → proximity weights.
        surrogate: masks, scores, weights → Fit.
        rounds: ``Once()``, or ``Until(error=0.25)``: see :mod:`torchlime.rounds`.
        chunk_size: the largest number of rows of one forward pass; None = 256, fewer on a CPU.
        exact_chunks: give every forward pass exactly ``chunk_size`` rows, for engines of a fixed
            batch.
        autocast: torch.bfloat16 or torch.float16 for the forward passes; None keeps the caller's
            setting.
        seed: the seed of the masks; an int.

    Raises:
        TypeError, ValueError: a setting is unknown, of the wrong type or out of range.

    Example:
        >>> def model(ids):  # says how often a text has token 7
        ...     return (ids == 7).double().sum(1)
        >>> ids = torch.tensor([[5, 7, 6], [7, 4, 5]])
        >>> e = TokenLime(hide=0, num_samples=100).explain(model, ids).check()
        >>> e.top(1)[0].tolist()
        [[[1]], [[0]]]
    """

    hide: int
    num_samples: int = 1000
    sampler: Sampler = RandomSize()
    kernel: Kernel = Exponential(0.25, "cosine")
    surrogate: Surrogate = Ridge(alpha=1.0)
    rounds: Rounds = Once()
    chunk_size: int | None = None
    exact_chunks: bool = False
    autocast: torch.dtype | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not is_integer(self.hide):
            raise TypeError(
                f"hide must be the id of a token, got {type(self.hide).__name__}; if the "
                "tokenizer has no mask token, use tokenizer.unk_token_id or pad_token_id"
            )
        check_count(self.num_samples, "num_samples", 2)
        Forward.of(self)
        check_rounds_setting(self.rounds, self.surrogate, self.sampler)
        check_callables(sampler=self.sampler, kernel=self.kernel, surrogate=self.surrogate)

    def explain(
        self,
        model: Model,
        ids: Any,
        targets: Targets = None,
        *,
        groups: Tensor | None = None,
        max_groups: int | None = None,
        tokenizer: Any = None,
        top: int = 1,
        seed: int | Tensor | None = None,
        differentiable: bool = False,
        keep_samples: bool = False,
        resume: Explanation | None = None,
        progress: Progress | None = None,
    ) -> Explanation:
        """Explain what ``model`` makes of each of the texts.

        Args:
            model: ids [n,L] → [n,classes] or [n], or an object with such ``.logits``. Where ``ids``
                is a mapping, it is called ``model(**mapping)``.
            ids: [B,L] integers; or the mapping that a tokenizer returns, with "input_ids" and the
                other inputs of the model, such as "attention_mask", each [B,…].
            targets, top, differentiable, keep_samples, resume, progress: as for
                :meth:`torchlime.Lime.explain`.
            groups: which tokens are hidden together: any integers, [L] or [B,L]; −1 is never
                hidden. None = the words of a fast tokenizer's mapping, else each token alone.
                Padding (attention mask 0) is never hidden.
            max_groups: the largest number of groups of a text, a static bound. Without it, the
                number is read back once on a GPU, before the pipeline.
            tokenizer: gives the features names: ``explanation.names()``. It reads the ids on the
                host.
            seed: used instead of the explainer's seed; an int64 tensor [B] gives each text its own
                seed.

        Returns:
            Explanation: its features are the groups; ``segments`` [B,L] says where they are.

        Raises:
            TypeError, ValueError, IndexError: an argument, or the model's output, is of the wrong
                type, shape, device or range.
            torch.OutOfMemoryError: not even a single text fits into a forward pass.
        """
        check_settings(resume, self)
        forward = Forward.of(self, differentiable=differentiable, progress=progress)
        tokens, extra = _apart(ids)
        groups = _groups(ids, tokens, groups, extra.get("attention_mask"))
        scores = scores_of(targets, top, len(tokens), tokens.device, "the ids are")
        seed = self.seed if seed is None else seed
        with undisturbed(tokens.device):
            inputs = {"input_ids": tokens} if isinstance(ids, Mapping) else tokens
            hidden = torch.full((), int(self.hide), dtype=tokens.dtype, device=tokens.device)
            segments = as_segments(groups, tokens, max_groups)
            features = Entries(inputs, [segments], hidden, as_extra(extra or None, inputs), TOKENS)
        explanation = local_fit(
            model, features, scores, sampler=self.sampler, num_samples=int(self.num_samples),
            kernel=self.kernel, surrogate=self.surrogate, forward=forward, seed=seed,
            keep_samples=keep_samples, rounds=self.rounds,
            resume=resume,
        )  # fmt: skip
        explanation = dataclasses.replace(explanation, segments=segments.labels)
        found = made_by(explanation, self, seed, resume, **words_of_scores(scores))
        if tokenizer is None:
            return found
        return dataclasses.replace(found, named=_names(found, tokens, tokenizer))


def _apart(ids: Any) -> tuple[Tensor, dict[str, Any]]:
    """The token ids, and what else the model takes."""
    extra = dict(ids) if isinstance(ids, Mapping) else {}
    tokens = extra.pop("input_ids", None) if isinstance(ids, Mapping) else ids
    expected = "ids must be integers [B,L], or a mapping with such input_ids"
    if not isinstance(tokens, Tensor):
        hint = '; pass return_tensors="pt" to the tokenizer' if isinstance(tokens, list) else ""
        raise TypeError(f"{expected}, got {type(tokens).__name__}{hint}")
    if tokens.dim() != 2 or tokens.is_floating_point() or 0 in tokens.shape:
        raise ValueError(f"{expected}, got {tokens.dtype} {list(tokens.shape)}")
    return tokens, extra


def _groups(ids: Any, tokens: Tensor, groups: Tensor | None, shown: Tensor | None) -> Tensor:
    """The group of each token [B,L]; -1 where it is never hidden."""
    if groups is None and getattr(ids, "is_fast", False):
        words = [ids.word_ids(row) for row in range(len(tokens))]
        numbered = [[KEPT if word is None else word for word in row] for row in words]
        groups = torch.tensor(numbered).to(tokens.device)
    if groups is None:
        groups = torch.arange(tokens.shape[1], device=tokens.device)
    if not isinstance(groups, Tensor) or groups.shape not in (tokens.shape, tokens.shape[1:]):
        got = list(groups.shape) if isinstance(groups, Tensor) else type(groups).__name__
        length = tokens.shape[1]
        raise ValueError(f"groups must be [{length}] or [{len(tokens)},{length}], got {got}")
    if groups.is_floating_point():
        raise TypeError(f"groups must be integers, got {groups.dtype}")
    groups = groups.expand(tokens.shape)
    return groups if shown is None else torch.where(shown.bool(), groups, KEPT)


def _names(explanation: Explanation, tokens: Tensor, tokenizer: Any) -> TextNames:
    """The tokens of each feature, and where they stand in the text of all shown tokens."""
    texts, names, places = [], [], []
    columns = explanation.segments
    assert isinstance(columns, Tensor)
    for row, (ids, owners) in enumerate(zip(tokens.tolist(), columns.tolist(), strict=True)):
        count = int(explanation.segment_count[row])
        spans: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        words: list[list[int]] = [[] for _ in range(count)]
        text = ""
        for token, owner in zip(ids, owners, strict=True):
            if owner < 0:
                continue
            spelled = tokenizer.convert_ids_to_tokens(token)
            text += " " * bool(text)
            spans[owner].append((len(text), len(text) + len(spelled)))
            text += spelled
            words[owner].append(token)
        texts.append(text)
        names.append(tuple(tokenizer.decode(found) for found in words))
        places.append(tuple(map(tuple, spans)))
    return TextNames(tuple(texts), tuple(names), tuple(places))


class TokenSettings(TypedDict, total=False):
    """The fields of :class:`TokenLime` beside ``hide``."""

    num_samples: int
    sampler: Sampler
    kernel: Kernel
    surrogate: Surrogate
    rounds: Rounds
    chunk_size: int | None
    exact_chunks: bool
    autocast: torch.dtype | None


class ExplainTokensSettings(TokenSettings, total=False):
    """The keywords of :func:`explain_tokens` beside ``hide``."""

    groups: Tensor | None
    max_groups: int | None
    tokenizer: Any
    top: int
    seed: int | Tensor | None
    differentiable: bool
    keep_samples: bool
    resume: Explanation | None
    progress: Progress | None


def explain_tokens(
    model: Model,
    ids: Any,
    targets: Targets = None,
    *,
    hide: int,
    **settings: Unpack[ExplainTokensSettings],
) -> Explanation:
    """``TokenLime(hide=…, **fields).explain(model, ids, targets, …)`` in one call.

    The keywords are the fields of :class:`TokenLime` and the arguments of
    :meth:`TokenLime.explain`. With a network of Hugging Face ::

        encoded = tokenizer(texts, return_tensors="pt", padding=True)
        explain_tokens(network, encoded, hide=tokenizer.mask_token_id, tokenizer=tokenizer)

    Example:
        >>> def model(ids):
        ...     return (ids == 7).double().sum(1)
        >>> e = explain_tokens(model, torch.tensor([[5, 7, 6]]), hide=0, num_samples=50)
        >>> e.top(1)[0].tolist()
        [[[1]]]
    """
    check_keywords(settings, ExplainTokensSettings.__annotations__, "explain_tokens()")
    fields = TokenSettings.__annotations__
    own = {name: value for name, value in settings.items() if name in fields}
    call = {name: value for name, value in settings.items() if name not in own}
    return TokenLime(hide=hide, **own).explain(model, ids, targets, **call)  # type: ignore[arg-type]
