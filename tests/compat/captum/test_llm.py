"""Captum's wrappers of language models take our explainers: a tiny model of letters."""

from types import SimpleNamespace

import captum.attr
import pytest
import torch
from captum.attr import LLMAttribution, LLMGradientAttribution, TextTemplateInput, TextTokenInput

from torchlime.compat import captum as ours

LETTERS = "abcdefghijklmnopqrstuvwxyz .,"


class Letters:
    """A token a letter; 0 is the letter a."""

    vocab_size = len(LETTERS)
    unk_token_id = pad_token_id = sep_token_id = None

    def __call__(self, text, return_offsets_mapping=False, add_special_tokens=True, **_):
        return {
            "input_ids": self.encode(text),
            "offset_mapping": [(i, i + 1) for i in range(len(text))],
        }

    def encode(self, text, return_tensors=None, add_special_tokens=True):
        ids = [LETTERS.index(letter) for letter in text]
        return torch.tensor([ids]) if return_tensors == "pt" else ids

    def decode(self, ids, **_):
        return "".join(LETTERS[int(i)] for i in torch.as_tensor(ids).reshape(-1))

    def convert_ids_to_tokens(self, ids):
        return [LETTERS[int(i)] for i in ids]

    def convert_tokens_to_ids(self, tokens):
        return LETTERS.index(tokens) if isinstance(tokens, str) else [*map(LETTERS.index, tokens)]


class Model(torch.nn.Module):
    """Logits [1,L,V] of the letters so far; like most language models, for one prompt a call."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(len(LETTERS), 6)
        self.recurrent = torch.nn.GRU(6, 8, batch_first=True)
        self.head = torch.nn.Linear(8, len(LETTERS))

    def forward(self, input_ids, attention_mask=None, use_cache=None):
        hidden = self.recurrent(self.embedding(input_ids))[0]
        return SimpleNamespace(logits=4 * self.head(hidden))

    def generate(self, input_ids, max_new_tokens=3, **_):
        for _ in range(3):
            following = self(input_ids).logits[:, -1:].argmax(-1)
            input_ids = torch.cat([input_ids, following], dim=1)
        return input_ids


INPUTS = {
    "template": lambda: TextTemplateInput("the {} ate a {} in {}", ["cat", "fish", "may"],
                                          baselines=["dog", "bone", "june"]),
    "tokens": lambda: TextTokenInput("a cat sat", Letters(), baselines=0),
}  # fmt: skip
METHODS = {
    "FeatureAblation": {}, "ShapleyValueSampling": {"n_samples": 4},
    "Lime": {"n_samples": 20}, "KernelShap": {"n_samples": 20},
}  # fmt: skip


def attributed(module, method, kind, **more):
    model = Model().eval()
    own = {"rng": "captum"} if module is ours and method != "FeatureAblation" else {}
    wrapper = LLMAttribution(getattr(module, method)(model, **own), Letters())
    torch.manual_seed(1)
    return wrapper.attribute(INPUTS[kind](), use_cached_outputs=False, **METHODS[method], **more)


@pytest.mark.parametrize("in_tokens", [True, False])
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("method", METHODS)
def test_attributions_are_captums(method, kind, in_tokens):
    theirs, mine = (
        attributed(module, method, kind, target="yes", forward_in_tokens=in_tokens)
        for module in (captum.attr, ours)
    )
    torch.testing.assert_close(mine.seq_attr, theirs.seq_attr, rtol=5e-3, atol=1e-4)
    assert mine.seq_attr.abs().max() > 1e-3
    if method in ("Lime", "KernelShap"):
        assert mine.token_attr is theirs.token_attr is None
    else:  # several outputs, one a token
        assert mine.token_attr.shape[0] == 3
        torch.testing.assert_close(mine.token_attr, theirs.token_attr, rtol=1e-4, atol=1e-5)


def test_the_target_may_be_generated():
    theirs, mine = (
        attributed(module, "FeatureAblation", "tokens") for module in (captum.attr, ours)
    )
    assert mine.output_tokens == theirs.output_tokens
    torch.testing.assert_close(mine.token_attr, theirs.token_attr, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["Occlusion", *METHODS])
def test_gradients_are_refused_as_captum_refuses_them(method):
    """LLMGradientAttribution takes Captum's layer gradients only."""
    for module in (captum.attr, ours):
        with pytest.raises(AssertionError, match="LLMGradientAttribution does not support"):
            LLMGradientAttribution(getattr(module, method)(Model()), Letters())
