"""Names of classes: what they mean, ImageNet's synonyms and ids among them, and what is offered."""

import random
import subprocess
import sys

import pytest
from torch import nn
from torchvision.models import ResNet18_Weights

from torchlime.folders import meant_by
from torchlime.models import Classifier
from torchlime.models.categories import alike, called, offers
from torchlime.models.imagenet import _TABLE, synsets, with_synonyms

IMAGENET = ResNet18_Weights.DEFAULT.meta["categories"]
CLASSIFIER = Classifier(nn.Identity(), categories=IMAGENET)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("tabby cat", 281),
        ("tabby", 281),
        ("Siamese", 284),
        ("n02123045", 281),
        ("N02123045", 281),
        ("giant_panda", 388),
        ("german-shepherd", 235),
        ("Alsatian", 235),
        ("crane", 517),
        ("Cardigan", 264),
        ("cardigan", 474),
        ("Ailuropoda melanoleuca", 388),
        ("999", 999),
    ],
)
def test_imagenets_names_are_known(name, index):
    assert CLASSIFIER.find_category(name) == index


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("panda", "several categories are called 'panda': give the index of one of "
                  "'lesser panda' (387), 'giant panda' (388)"),
        ("CARDIGAN", "several categories are called 'CARDIGAN': give the index of one of "
                     "'Cardigan' (264), 'cardigan' (474)"),
        ("corgi", "unknown category 'corgi' (nearest: Pembroke Welsh corgi (263), "
                  "Cardigan Welsh corgi (264))"),
        ("Egyptian Mau", "unknown category 'Egyptian Mau' (nearest: Egyptian cat (285))"),
        ("cat", "unknown category 'cat' (nearest: tiger cat (282), Persian cat (283), "
                "Siamese cat (284), Egyptian cat (285), Madagascar cat (383), tabby cat (281), "
                "bear cat (387))"),
        ("golden retriver", "unknown category 'golden retriver' (nearest: golden retriever (207))"),
        ("tabbi", "unknown category 'tabbi' (nearest: tabby (281), "),
        ("n99999999", "unknown category 'n99999999'"),
        ("zzzz", "unknown category 'zzzz'"),
    ],
)  # fmt: skip
def test_what_may_be_meant_is_listed(name, sentence):
    with pytest.raises(ValueError) as caught:
        CLASSIFIER.find_category(name)
    assert str(caught.value).startswith(sentence)


def test_many_are_counted():
    assert offers("dog", IMAGENET).endswith("and 6 more)")


def test_every_category_and_every_id_means_itself():
    assert [called(name, IMAGENET) for name in IMAGENET] == [[i] for i in range(1000)]
    assert [called(s.id, IMAGENET) for s in synsets()[::50]] == [[i] for i in range(0, 1000, 50)]


def test_the_table_is_imagenets():
    assert len({synset.id for synset in synsets()}) == 1000
    assert [s.id for s in synsets()] == sorted(s.id for s in synsets())
    differ = [c for c, s in zip(IMAGENET, synsets(), strict=True) if not meant_by(c, [s.names])]
    assert differ == ["crane bird", "maillot tank suit"]  # torchvision's own names
    assert _TABLE.stat().st_size < 40_000


def test_the_table_is_timms():
    timm_data = pytest.importorskip("timm.data")
    info = timm_data.ImageNetInfo("imagenet-1k")
    assert info.label_names() == [synset.id for synset in synsets()]
    assert [info.index_to_description(i) for i in range(1000)] == [s.names for s in synsets()]


def test_other_models_names_stay_as_they_are():
    own = ["tabby", "crate", "crane"]
    assert with_synonyms(own) == own
    assert called("tabby cat", own) == []
    shuffled = random.Random(0).sample(IMAGENET, 1000)
    assert with_synonyms(shuffled) == shuffled
    assert with_synonyms([]) == []


def test_categories_that_are_wordnet_ids():
    ids = [synsets()[index].id for index in (388, 281, 517)]
    assert [called(n, ids) for n in ("panda", "tabby cat", "crane", "cat", ids[1])] == [
        [0], [1], [2], [], [1],
    ]  # fmt: skip
    assert offers("cat", ids) == " (nearest: tabby cat (1))"


def test_folders_that_mean_the_same_are_found_among_a_thousand():
    ids = [synset.id for synset in synsets()]
    assert alike("tabby cat", ids, IMAGENET) == [281]
    assert alike("panda", ids, IMAGENET) == [387, 388]
    assert alike("crane bird", ["crane", "n02012849", "crane bird"], IMAGENET) == [1, 2]
    assert alike("cat", ids, IMAGENET) == alike("tabby", ids, []) == []


def test_words_are_compared_whole_and_without_case():
    assert offers("CAT", ["catfish", "tiger_cat"]) == " (nearest: tiger_cat (1))"
    assert offers("", ["catfish"]) == offers("?", ["catfish"]) == ""


def test_the_table_is_read_only_when_it_is_asked_for():
    code = (
        "from torchlime.models import Classifier, imagenet; from torch import nn; "
        "c = Classifier(nn.Identity(), categories=['red', 'blue']); c.find_category('red'); "
        "assert imagenet.synsets.cache_info().currsize == 0; c.called('green'); "
        "assert imagenet.synsets.cache_info().currsize == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
