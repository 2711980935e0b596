"""Token ids against known answers, and networks of Hugging Face."""

import dataclasses

import pytest
import torch
from torch import nn

from torchlime import TokenLime, explain_tokens, plot
from torchlime.masks import Exhaustive
from torchlime.surrogates import LeastSquares
from torchlime.weights import Uniform

transformers = pytest.importorskip("transformers")

EXACT = {"sampler": Exhaustive(), "surrogate": LeastSquares(), "kernel": Uniform()}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "##ness", "film", "bad"]
TEXTS = ["a good film", "bad", "goodness"]


def bags(seed=0):
    """A network that adds up a vector for each token: [n,L] → [n,3]."""
    torch.manual_seed(seed)
    return nn.EmbeddingBag(20, 3, mode="sum").double()


@pytest.fixture(scope="module")
def tokenizer():
    return transformers.BertTokenizerFast(vocab={w: n for n, w in enumerate(WORDS)})


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, num_labels=3,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config).eval()


def test_a_sum_of_embeddings_gives_its_differences_back():
    network, ids = bags(), torch.tensor([[3, 7, 1, 7], [4, 4, 9, 0]])
    e = explain_tokens(network, ids, "all", hide=2, num_samples=16, **EXACT).check()
    weights = network.weight.detach()
    expected = (weights[ids] - weights[2]).transpose(1, 2)
    assert e.coefficients.allclose(expected, atol=1e-9)
    assert e.kind.part == "token"
    assert e.segments.tolist() == [[0, 1, 2, 3]] * 2


def test_tokens_of_a_group_are_hidden_together():
    network, ids = bags(), torch.tensor([[3, 7, 1, 7]])
    groups = torch.tensor([50, -1, 50, 9])
    e = explain_tokens(network, ids, 0, hide=2, groups=groups, num_samples=4, **EXACT).check()
    weights = network.weight.detach()[:, 0]
    both = (weights[3] + weights[1] - 2 * weights[2]).item()
    assert dict(e.as_list()) == pytest.approx({"9": (weights[7] - weights[2]).item(), "50": both})


def test_a_mapping_of_a_tokenizer_is_explained_by_its_words(network, tokenizer):
    encoded = tokenizer(TEXTS, return_tensors="pt", padding=True)
    seen = []
    network.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append({n: t.clone() for n, t in kwargs.items()}),
        with_kwargs=True,
    )
    e = explain_tokens(
        network, encoded, 1, hide=tokenizer.mask_token_id, tokenizer=tokenizer, num_samples=30
    )
    assert e.names() == [["a", "good", "film"], ["bad"], ["goodness"]]
    assert e.segments.tolist() == [[-1, 0, 1, 2, -1], [-1, 0, -1, -1, -1], [-1, 0, 0, -1, -1]]
    for kwargs in seen:
        ids, shown = kwargs["input_ids"], kwargs["attention_mask"]
        assert ids.dtype == torch.int64
        assert torch.equal(shown == 0, ids == 0)  # each row has the mask of its own text
    scores = network(**encoded).logits
    assert e.scores[:, 0].allclose(scores[:, 1].double(), atol=1e-5)
    assert plot.highlighted(e[0]).count("<mark") == 3


def test_special_tokens_and_padding_are_never_hidden(network, tokenizer):
    encoded = dict(tokenizer(TEXTS[:2], return_tensors="pt", padding=True))  # without its words
    e = explain_tokens(network, encoded, 1, hide=4, num_samples=30)
    assert e.segment_count.tolist() == [5, 3]  # the special tokens are tokens here
    groups = torch.where(encoded["input_ids"] > 4, torch.arange(5), -1)
    e = explain_tokens(network, encoded, 1, hide=4, groups=groups, num_samples=30)
    assert e.segment_count.tolist() == [3, 1]


def test_texts_in_a_batch_are_as_alone(network, tokenizer):
    encoded = tokenizer(TEXTS, return_tensors="pt", padding=True)
    settings = {"hide": 4, "num_samples": 40}
    many = explain_tokens(network, encoded, 1, max_groups=3, **settings)
    for row, text in enumerate(TEXTS):
        alone = tokenizer([text], return_tensors="pt", padding="max_length", max_length=5)
        one = explain_tokens(network, alone, 1, max_groups=3, **settings)
        assert one.coefficients[0].allclose(many.coefficients[row], atol=1e-4)


@pytest.mark.parametrize(
    ("ids", "settings", "message"),
    [
        ([[1, 2]], {}, "return_tensors"),
        ({"attention_mask": torch.ones(1, 2)}, {}, "with such input_ids"),
        (torch.ones(1, 2), {}, "integers"),
        (torch.ones(2, dtype=torch.long), {}, "integers"),
        (torch.ones(1, 2, dtype=torch.long), {"groups": torch.zeros(3).long()}, r"groups must be"),
        (torch.ones(1, 2, dtype=torch.long), {"groups": torch.zeros(2)}, "must be integers"),
        (torch.ones(1, 2, dtype=torch.long), {"hide": None}, "unk_token_id"),
        (torch.ones(1, 2, dtype=torch.long), {"num_sample": 3}, "did you mean"),
    ],
)
def test_bad_input_has_a_sentence(ids, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        explain_tokens(bags(), ids, 0, **{"hide": 0, **settings})


def test_settings_are_kept():
    explainer = TokenLime(hide=2, num_samples=50)
    e = explainer.explain(bags(), torch.tensor([[3, 7, 1, 7]]), 0, seed=3)
    assert e.explainer == dataclasses.replace(explainer, seed=3)
    assert e.settings["seed"] == 3
