"""Regions, boxes and embeddings: planted ones are found, and definitions are taken literally."""

from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.test_fake_cuda import RefuseWaiting
from torchlime import Lime, explain
from torchlime.fills import Constant
from torchlime.masks import Exhaustive
from torchlime.segments import Grid
from torchlime.surrogates import LeastSquares
from torchlime.targets import Box, Classes, Computed, Region, Similarity, Targets, scores_of
from torchlime.weights import Uniform

BATCH = 3
QUARTERS = [(slice(0, 4), slice(0, 4)), (slice(4, 8), slice(4, 8)), (slice(0, 4), slice(4, 8))]
OWN = [0, 3, 1]  # the segment of Grid(2, 2) that each image's quarter is
EXACT = {
    "segmenter": Grid(2, 2), "sampler": Exhaustive(), "num_samples": 16, "fill": Constant(0.0),
    "kernel": Uniform(), "surrogate": LeastSquares(),
}  # fmt: skip
CHUNKS = [1, 2, 5, None]
SQUARE = torch.ones(8, 8, dtype=torch.bool)


@pytest.fixture
def images():
    return torch.rand(BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double() + 0.1


@pytest.fixture
def quarters():
    masks = torch.zeros(BATCH, 8, 8, dtype=torch.bool)
    for mask, place in zip(masks, QUARTERS, strict=True):
        mask[place] = True
    return masks


def per_pixel(x):
    """Logits [n,3,8,8] of every pixel, each of its own pixel alone."""
    return torch.cat([-x, x, 0.5 * x], dim=1)


# ---- Region --------------------------------------------------------------------------------------

WRAPPED = {
    "tensor": lambda maps: maps,
    "OrderedDict": lambda maps: OrderedDict(out=maps, aux=maps * 0),
    "dict": lambda maps: {"logits": maps, "out": maps * 0},
    "tuple": lambda maps: (maps, maps * 0),
    "object": lambda maps: SimpleNamespace(logits=maps),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_best_class_is_the_first_of_the_best_classes(dtype):
    g = torch.Generator().manual_seed(0)
    outputs = torch.randint(-1, 2, (60, 7), generator=g).to(dtype)  # many are equal
    outputs[20:40, 3], outputs[40:50, 5], outputs[45:, 2] = torch.nan, torch.inf, -0.0
    rows = torch.zeros(60, dtype=torch.int64)
    best, several = (Classes(top=top).reference(outputs, rows)["targets"] for top in (1, 2))
    assert torch.equal(best, several[:, :1])


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_a_planted_region_of_each_image(images, quarters, wrapped, chunk_size):
    e = explain(
        lambda x: WRAPPED[wrapped](per_pixel(x)), images, Region(quarters, 1),
        chunk_size=chunk_size, **EXACT,
    ).check()  # fmt: skip
    expected = torch.zeros(BATCH, 4, dtype=torch.float64)
    for number, place in enumerate(QUARTERS):
        expected[number, OWN[number]] = images[number, 0][place].mean()
    assert e.coefficients[:, 0].allclose(expected, rtol=0, atol=1e-10)
    assert e.targets.tolist() == [[1]] * BATCH
    assert (
        e.settings["scores"] == "Region(masks=a tensor [3, 8, 8], classes=1, top=1, unit='logit')"
    )


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_the_best_classes_are_those_inside_the_region(images, quarters, chunk_size):
    outside = 9.0 * ~quarters[0]

    def model(x):  # class 0 is large outside the quarter, and nowhere inside
        return torch.cat([outside.expand_as(x), x, 2 * x], dim=1)

    e = explain(model, images[:1], Region(quarters[:1], top=2), chunk_size=chunk_size, **EXACT)
    assert e.targets.tolist() == [[2, 1]]
    assert e.coefficients[0, 0].allclose(2 * e.coefficients[0, 1])
    whole = explain(model, images[:1], Region(torch.ones(8, 8).bool()), **EXACT)
    assert whole.targets.tolist() == [[0]]


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_own_best_class_of_each_image(images, quarters, chunk_size):
    """Each image's quarter is brightest in another channel."""
    x = torch.zeros(BATCH, 3, 8, 8, dtype=torch.float64)
    for number, place in enumerate(QUARTERS):
        x[number, 2 - number][place] = 1 + number
        x[number, (3 - number) % 3] += 0.5
    e = explain(lambda x: x, x, Region(quarters), chunk_size=chunk_size, **EXACT).check()
    assert e.targets.tolist() == [[2], [1], [0]]
    assert e.scores.flatten().tolist() == pytest.approx([1.0, 2.0, 3.0])


@pytest.mark.parametrize("unit", ["logit", "softmax", "sigmoid"])
def test_several_classes_are_literal_means(images, quarters, unit):
    classes = torch.tensor([[0, 2], [1, 1], [2, 0]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXACT, "chunk_size", 4)
        e = explain(
            per_pixel, images, Region(quarters, classes, unit=unit), keep_samples=True, **EXACT
        )
    for b, place in enumerate(QUARTERS):
        for sample in range(16):
            row = images[b, 0].numpy().copy()
            for segment, kept in enumerate(e.masks[b, sample].tolist()):
                if not kept:
                    row[segment // 2 * 4 : segment // 2 * 4 + 4, segment % 2 * 4 :][:, :4] = 0
            z = np.stack([-row, row, 0.5 * row])
            if unit == "softmax":
                z = np.exp(z) / np.exp(z).sum(0)
            elif unit == "sigmoid":
                z = 1 / (1 + np.exp(-z))
            for t, k in enumerate(classes[b].tolist()):
                assert e.sample_scores[b, sample, t].item() == pytest.approx(z[k][place].mean())


@pytest.mark.parametrize("size", [(2, 2), (4, 4), (3, 5)])
def test_masks_are_averaged_down_to_the_outputs(size):
    """A pixel of the outputs counts by its share inside; whole pixels where sizes divide."""
    generator = torch.Generator().manual_seed(0)
    shape = (size[0] * 3, size[1] * 3)
    masks = torch.rand(2, *shape, generator=generator) < 0.4
    maps = torch.rand(2, 4, *size, generator=generator)
    rows = torch.arange(2)
    region = Region(masks, torch.tensor([3, 1]))
    scores = region(maps, rows, region.reference(maps, rows))
    for b, k in enumerate([3, 1]):
        weights = masks[b].float().reshape(size[0], 3, size[1], 3).mean((1, 3))
        expected = (weights * maps[b, k]).sum() / weights.sum()
        assert scores[b, 0].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("step", [1, 2])
def test_outputs_of_half_the_size_take_masks_of_either(images, quarters, step):
    def model(x):
        return nn.functional.avg_pool2d(per_pixel(x), 2)

    masks = quarters[:, ::step, ::step]
    e = explain(model, images, Region(masks, 1), **EXACT).check()
    for number, place in enumerate(QUARTERS):
        mean = images[number, 0][place].mean().item()
        assert e.coefficients[number, 0, OWN[number]].item() == pytest.approx(mean)
    assert (e.coefficients.abs() > 1e-9).sum() == BATCH
    finer = Region(torch.ones(16, 16).bool(), 1)
    with pytest.raises(ValueError, match=r"the images' \[8, 8\] or .* \[4, 4\], got \[16"):
        explain(model, images, finer, **EXACT)


def test_an_empty_region_that_only_the_device_knows_is_a_problem():
    masks = torch.stack([SQUARE, SQUARE & False])
    maps, rows = torch.ones(2, 3, 8, 8), torch.arange(2)
    region = Region(masks, 1)
    found = region.reference(maps, rows)
    assert found["in_range"].tolist() == [True, False]
    assert region(maps, rows, found).tolist() == [[1.0], [0.0]]


def test_sizes_that_a_network_rounds():
    maps = torch.rand(1, 2, 63, 48)
    for size in ((250, 190), (250, 189), (252, 192), (251, 191)):
        region = Region(torch.ones(size).bool(), 0)
        assert region.reference(maps, torch.tensor([0]))["in_range"].all()
    for size in ((250, 120), (252, 196), (190, 250)):
        region = Region(torch.ones(size).bool(), 0)
        with pytest.raises(ValueError, match="other proportions"):
            region.reference(maps, torch.tensor([0]))


def test_weights_shared_masks_arrays_and_one_class(images):
    weights = torch.zeros(8, 8)
    weights[0, 0], weights[7, 7] = 1.0, 3.0
    given = {
        "tensor": weights, "array": weights.numpy(), "list": weights.tolist(),
        "of each": weights.expand(BATCH, -1, -1), "list of tensors": [weights] * BATCH,
    }  # fmt: skip
    expected = images[:, 0, 0, 0] / 4 + images[:, 0, 7, 7] * 3 / 4
    for masks in given.values():
        e = explain(lambda x: x[:, 0], images, Region(masks), **EXACT).check()
        assert e.scores[:, 0].allclose(expected, rtol=1e-6)
        assert e.targets.tolist() == [[0]] * BATCH
    picture = Image.fromarray(np.eye(8, dtype=np.uint8) * 255).convert("1")
    e = explain(lambda x: x[:, 0], images, Region(picture), **EXACT)
    assert e.scores[:, 0].allclose(images[:, 0].diagonal(dim1=1, dim2=2).mean(1))


def test_volumes_and_series():
    volume = torch.rand(2, 3, 2, 4, 4)
    mask = torch.zeros(4, 8, 8, dtype=torch.bool)
    mask[:2, :4, :4] = True
    region, rows = Region(mask, 1), torch.arange(2)
    scores = region(volume, rows, region.reference(volume, rows))
    assert scores[:, 0].allclose(volume[:, 1, 0, :2, :2].mean((1, 2)))
    series, mask = torch.rand(2, 3, 6), torch.tensor([False] * 4 + [True] * 8)
    region = Region(mask, 2)
    scores = region(series, rows, region.reference(series, rows))
    assert scores[:, 0].allclose(series[:, 2, 2:].mean(1))


def test_gradients_reach_the_model(images, quarters):
    gain = torch.ones((), dtype=torch.float64, requires_grad=True)
    e = explain(
        lambda x: per_pixel(gain * x), images, Region(quarters, 1), differentiable=True,
        chunk_size=7, **EXACT,
    )  # fmt: skip
    e.coefficients.sum().backward()
    expected = sum(images[b, 0][place].mean() for b, place in enumerate(QUARTERS))
    assert gain.grad.item() == pytest.approx(expected.item())


# ---- Box -----------------------------------------------------------------------------------------


class Detector(nn.Module):
    """A box on every quarter that is not empty: confidence = its mean, label = 1 + its number.

    A second box of label 9 lies on the first, half as confident; rows differ in their number.
    """

    def forward(self, x):
        found = []
        for row in x:
            means = [row[0, i : i + 4, j : j + 4].mean() for i in (0, 4) for j in (0, 4)]
            kept = [q for q, mean in enumerate(means) if mean > 0]  # a fading box is dropped
            boxes = [[q % 2 * 4, q // 2 * 4, q % 2 * 4 + 4, q // 2 * 4 + 4] for q in kept]
            labels, scores = [1 + q for q in kept], [means[q] for q in kept]
            if 0 in kept:
                boxes.append([0, 0, 4, 4])
                labels.append(9)
                scores.append(means[0] / 2)
            found.append(
                {
                    "boxes": torch.tensor(boxes).view(-1, 4).to(row),
                    "labels": torch.tensor(labels, dtype=torch.int64),
                    "scores": torch.stack(scores) if scores else row.new_zeros(0),
                }
            )
        return found


def own_boxes():
    return torch.tensor([[j.start, i.start, j.stop, i.stop] for i, j in QUARTERS]).double()


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_a_planted_box_of_each_image(images, chunk_size):
    e = explain(Detector(), images, Box(own_boxes()), chunk_size=chunk_size, **EXACT).check()
    expected = torch.zeros(BATCH, 4, dtype=torch.float64)
    for number, place in enumerate(QUARTERS):
        expected[number, OWN[number]] = images[number, 0][place].mean()
    assert e.coefficients[:, 0].allclose(expected, rtol=0, atol=1e-10)
    assert e.targets.tolist() == [[1], [4], [2]]  # of the two on the first, the more confident


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_several_boxes_and_classes(images, chunk_size):
    boxes = torch.tensor([[[0, 0, 4, 4], [4, 4, 8, 8.0]]]).expand(BATCH, -1, -1)
    e = explain(Detector(), images, Box(boxes, [[9, 4]] * BATCH), chunk_size=chunk_size, **EXACT)
    means = [images[:, 0, :4, :4].mean((1, 2)) / 2, images[:, 0, 4:, 4:].mean((1, 2))]
    assert e.check().coefficients[:, 0, 0].allclose(means[0], rtol=0, atol=1e-10)
    assert e.coefficients[:, 1, 3].allclose(means[1], rtol=0, atol=1e-10)
    assert e.coefficients.abs().sum() == pytest.approx((means[0] + means[1]).sum().item())


def literal_drise(box, category, detections):
    """Petsiuk et al. 2021, for detectors of one label and one confidence a box."""
    best = 0.0
    for other, label, score in zip(*(d.numpy() for d in detections.values()), strict=True):
        if label != category:
            continue
        width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
        height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
        union = (box[2] - box[0]) * (box[3] - box[1]) - width * height
        union += (other[2] - other[0]) * (other[3] - other[1])
        best = max(best, width * height / union * score)
    return best


def random_detections(generator, numbers):
    found = []
    for k in numbers:
        corners = torch.rand(k, 2, 2, generator=generator).double() * 20
        low, high = corners.amin(1), corners.amax(1)
        found.append(
            {
                "boxes": torch.cat([low, high], 1),
                "labels": torch.randint(1, 4, (k,), generator=generator),
                "scores": torch.rand(k, generator=generator).double(),
            }
        )
    return found


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_d_rise(seed):
    generator = torch.Generator().manual_seed(seed)
    outputs = random_detections(generator, [12, 0, 5, 30, 1, 7])
    rows = torch.tensor([0, 0, 1, 1, 2, 2])
    boxes = torch.tensor([[[0, 0, 9, 12], [5, 5, 20, 20.0]]]).expand(3, -1, -1) + 0.5
    score = Box(boxes, torch.tensor([[1, 2], [3, 3], [2, 1]]))
    found = score.reference(outputs, rows)
    ours = score(outputs, rows, found)
    for n, row in enumerate(rows.tolist()):
        for t in range(2):
            box, category = boxes[row, t].tolist(), score.classes[row, t].item()
            expected = literal_drise(box, category, outputs[n])
            assert ours[n, t].item() == pytest.approx(expected, abs=1e-9)
    free = Box(boxes).reference(outputs, rows)
    for n in range(6):
        for t in range(2):
            every = [literal_drise(boxes[0, t].tolist(), k, outputs[n]) for k in (1, 2, 3)]
            if max(every) > 0:
                assert free["targets"][n, t] == 1 + int(np.argmax(every))
            else:
                assert not free["in_range"][n]


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_the_most_confident_boxes(images, chunk_size):
    means = torch.stack(
        [
            images[:, 0][(slice(None), *q)].mean((1, 2))
            for q in [(slice(i, i + 4), slice(j, j + 4)) for i in (0, 4) for j in (0, 4)]
        ],
        1,
    )
    e = explain(Detector(), images, Box(top=2), chunk_size=chunk_size, **EXACT).check()
    best = means.sort(1, descending=True)
    assert (e.targets == best.indices[:, :2] + 1).all()
    assert e.scores.allclose(best.values[:, :2])
    e = explain(Detector(), images, Box(classes=[[9, 3]] * BATCH), **EXACT).check()
    assert e.scores.allclose(torch.stack([means[:, 0] / 2, means[:, 2]], 1))


def test_gradients_of_a_box(images):
    gain = torch.ones((), dtype=torch.float64, requires_grad=True)
    detector = Detector()
    e = explain(
        lambda x: detector(gain * x), images, Box(own_boxes()), differentiable=True, **EXACT
    )
    e.coefficients.sum().backward()
    expected = sum(images[b, 0][place].mean() for b, place in enumerate(QUARTERS))
    assert gain.grad.item() == pytest.approx(expected.item())


NO_BOX = "the model finds no box of it in the whole image"


@pytest.mark.parametrize(
    ("box", "targets"),
    [
        (Box([0, 0, 4, 4], 7), [[7]]),  # no box of that class
        (Box([0, 0, 4, 4], 4), [[4]]),  # it lies elsewhere
        (Box(classes=7), [[7]]),
    ],
)
def test_no_such_box_is_a_problem_and_scores_0(images, box, targets):
    e = explain(Detector(), images[:1], box, **EXACT)
    with pytest.raises(RuntimeError, match=NO_BOX):
        e.check()
    assert e.targets.tolist() == targets
    assert e.scores.tolist() == [[0.0]]
    assert e.coefficients.abs().sum() < 1e-12


def test_a_detector_that_finds_nothing(images):
    images = images.clone()
    images[1] = 0
    for box in (Box(own_boxes()), Box(), Box(top=30)):
        e = explain(Detector(), images, box, **EXACT)
        reasons = [bool(r) and NO_BOX in r[0] for r in e.reasons()]
        assert reasons == [box.top == 30, True, box.top == 30]
        assert e.coefficients[1].abs().sum() == 0


# ---- Similarity ----------------------------------------------------------------------------------

EMBEDDED = {
    "tensor": lambda e: e,
    "pooler_output": lambda e: SimpleNamespace(pooler_output=e, last_hidden_state=e[:, None]),
    "image_embeds": lambda e: {"image_embeds": e, "pooler_output": e * 0},
}


def embed(x):
    """The mean of each quarter: [n,4]."""
    return x[:, 0].unfold(1, 4, 4).unfold(2, 4, 4).mean((3, 4)).flatten(1)


@pytest.mark.parametrize("embedded", EMBEDDED)
@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_a_planted_direction_of_each_image(images, embedded, chunk_size):
    own = torch.eye(4, dtype=torch.float64)[OWN][:, None]
    settings = {"chunk_size": chunk_size, "keep_samples": True, **EXACT}
    e = explain(lambda x: EMBEDDED[embedded](embed(x)), images, Similarity(own), **settings).check()
    strongest = e.top(1)[0].flatten().tolist()
    assert strongest == OWN
    assert (e.coefficients[:, 0] > 0).sum(1).tolist() == [1] * BATCH
    rows = embed(images)[:, None] * e.masks.double()  # [B,N,4]
    cosines = rows.gather(2, torch.tensor(OWN)[:, None, None].expand(-1, 16, 1))[..., 0]
    cosines = cosines / rows.norm(dim=2).clamp(min=1e-12)
    assert e.sample_scores[..., 0].allclose(cosines, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk_size", CHUNKS)
def test_own_unmasked_embedding_and_shared_ones(images, chunk_size):
    e = explain(embed, images, Similarity(), chunk_size=chunk_size, keep_samples=True, **EXACT)
    assert e.check().scores.allclose(torch.ones(BATCH, 1).double())
    whole = embed(images)
    rows = whole[:, None] * e.masks.double()
    cosines = (rows * whole[:, None]).sum(2) / (rows.norm(dim=2) * whole.norm(dim=1)[:, None])
    assert e.sample_scores[..., 0].allclose(cosines.nan_to_num(0.0), rtol=0, atol=1e-12)
    shared = [[1.0, 0, 0, 0], [0, 0, 0, 2.0]]
    e = explain(embed, images, Similarity(shared), chunk_size=chunk_size, **EXACT).check()
    assert e.targets.tolist() == [[0, 1]] * BATCH
    assert e.scores.allclose(whole[:, [0, 3]] / whole.norm(dim=1, keepdim=True))
    one = explain(embed, images, Similarity(shared[1]), **EXACT)
    assert one.scores[:, 0].allclose(e.scores[:, 1])


def test_networks_of_transformers():
    """SegFormer's logits have a quarter of the images' size; CLIP's outputs are objects."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    x, masks = torch.rand(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[0, :16, :16] = masks[1, 16:, 16:] = True
    config = transformers.SegformerConfig(
        hidden_sizes=[8] * 4, depths=[1] * 4, num_attention_heads=[1] * 4, num_labels=5,
        decoder_hidden_size=8,
    )  # fmt: skip
    network = transformers.SegformerForSemanticSegmentation(config).eval()
    settings = {"segmenter": Grid(2, 2), "num_samples": 16, "sampler": Exhaustive()}
    e = explain(network, x, Region(masks), **settings).check()
    with torch.no_grad():
        logits = network(x).logits
    assert logits.shape == (2, 5, 8, 8)
    means = torch.stack([logits[0, :, :4, :4].mean((1, 2)), logits[1, :, 4:, 4:].mean((1, 2))])
    assert e.targets[:, 0].tolist() == means.argmax(1).tolist()
    assert e.scores[:, 0].float().allclose(means.amax(1), atol=1e-6)
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
              "num_attention_heads": 1, "image_size": 32, "patch_size": 16}  # fmt: skip
    config = transformers.CLIPConfig(vision_config=vision, projection_dim=6)
    clip = transformers.CLIPModel(config).eval()
    text = torch.randn(6)
    e = explain(clip.get_image_features, x, Similarity(text), **settings).check()
    with torch.no_grad():
        found = clip.get_image_features(x)
    embeddings = getattr(found, "pooler_output", found)
    cosines = nn.functional.cosine_similarity(embeddings, text[None])
    assert e.scores[:, 0].float().allclose(cosines, atol=1e-6)
    assert e.coefficients.abs().max() > 1e-4


# ---- What is said --------------------------------------------------------------------------------

HOLE = torch.stack([SQUARE, SQUARE & False, SQUARE])
BAD = [
    (Region(SQUARE[:, :4]), ValueError, r"\[8, 8\] or the model's .*\[8, 8\], got \[8, 4\]"),
    (Region(torch.ones(16, 16).bool()), ValueError, r"got \[16, 16\]; draw the region on what the"),
    (Region(SQUARE.expand(2, -1, -1)), ValueError, "one entry for each of the 3 inputs, or one"),
    (Region(SQUARE & False), ValueError, "region of masks is empty: no pixel of it is inside"),
    (Region(HOLE), ValueError, "region 1 of masks is empty"),
    (Region(SQUARE.long()), TypeError, r"got torch.int64; of a label map, masks = \(labels"),
    (Region(SQUARE * -1.0), ValueError, "but region holds other numbers"),
    (Region(SQUARE[0]), ValueError, r"of images \[8, 8\], got \[8\]"),
    (Region("mask.png"), TypeError, "masks must be a tensor, an .* of numbers, got str"),
    (Region(SQUARE.to("meta")), ValueError, "masks is on meta, the images are on cpu"),
    (Region(SQUARE, 3), IndexError, "classes=3, but the model has 3 classes"),
    (Region(SQUARE, -1), ValueError, "an int of 0 or above, or ints .* got -1"),
    (Region(SQUARE, [0, 1]), ValueError, "classes must have one entry for each of the 3 inputs"),
    (Region(SQUARE, 1.0), TypeError, "classes must be None, an int of .* got torch.float64"),
    (Region(SQUARE, top=4), ValueError, "top=4, but the model has 3 classes"),
    (Box([4, 0, 4, 4]), ValueError, r"the box \(4, 0, 4, 4\) is empty: .* with x0 < x1 and"),
    (Box([4, 4, 2, 8]), ValueError, "is empty: it must be .*not x, y, width and height"),
    (Box([8, 0, 12, 4]), ValueError, "lies outside the images, which are 8 wide and 8 high"),
    (Box([-4, -4, 0, 0]), ValueError, "lies outside the images"),
    (Box([[0, 0, 4, 4]] * 2), ValueError, "boxes must have one entry for each of the 3 inputs"),
    (Box([0, 0, 4]), ValueError, r"\[4\], \[B,4\] or \[B,T,4\], got \[3\]"),
    (Box([[0, 0], [1]]), ValueError, "boxes must be rows of one length"),
    (Similarity([[[1.0, 0, 0]]] * 2), ValueError, "embedding must have one entry for each of"),
    (Similarity([True]), TypeError, "got torch.bool"),
]  # fmt: skip


@pytest.mark.parametrize(("scores", "error", "message"), BAD)
def test_bad_input_is_a_sentence(images, scores, error, message):
    with pytest.raises(error, match=message):
        explain(per_pixel, images, scores, **EXACT)


def test_what_is_asked_of_the_model(images):
    for scores, returned, error, message in (
        (Similarity([1.0, 0]), embed, ValueError, r"the D of the model's embeddings, 4, got \[2\]"),
        (Similarity(), per_pixel, ValueError, r"must return floats \[48,D\], got \[48, 3, 8, 8\]"),
        (Similarity(), Detector(), TypeError, 'such "image_embeds" or "pooler_output", got list'),
        (Region(SQUARE), embed, ValueError, r"floats \[48,classes,h,w\], got \[48, 4\]"),
        (Region(SQUARE), Detector(), TypeError, "list of dict with 'boxes', 'labels', 'scores'"),
        (Region(SQUARE), lambda x: {"maps": x}, TypeError, "got dict with 'maps'; wrap the model"),
        (Region(SQUARE, unit="softmax"), lambda x: x, ValueError, "always 1; use unit='sigmoid'"),
        (Box([0, 0, 4, 4]), embed, TypeError, "must return a list of 48 mappings .* got Tensor"),
        (Box(), lambda x: Detector()(x)[:5], ValueError, "a list of 48 mappings with .*, got 5"),
        (Box(), lambda x: [{"boxes": 0}] * len(x), ValueError, "'boxes', without labels, scores"),
        (Box([[[0, 0, 4, 4]] * 2], [[1, 1, 1]]), Detector(), ValueError, "got 2 and 3"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            explain(returned, images, scores, chunk_size=48, **EXACT)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="unit must be one of logit, softmax, sigmoid, got 'prob'"):
        Region(SQUARE, unit="prob")
    with pytest.raises(ValueError, match="top=2 goes without boxes and classes"):
        Box([0, 0, 1, 1], top=2)
    for wrong in (lambda: Region(SQUARE, top=0), lambda: Box(top=0)):
        with pytest.raises(ValueError, match="top must be at least 1"):
            wrong()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (per_pixel, r"\[48, 3, 8, 8\]; for scores at every pixel, pass targets=Region\(masks"),
        (lambda x: OrderedDict(out=per_pixel(x)), r"with 'out'; .* pass targets=Region\(masks"),
        (lambda x: (per_pixel(x), x), r"got tuple; for scores at every pixel, pass targets=Region"),
        (lambda x: {"logits": per_pixel(x)}, r"pass targets=Region\(masks, classes\) of torchlime"),
        (Detector(), r"'labels', 'scores'; for a detector, pass targets=Box\(boxes, classes\) of"),
        (lambda x: SimpleNamespace(image_embeds=embed(x)), r"pass targets=Similarity\(embedding\)"),
        (lambda x: {"scores": embed(x)}, r"got dict with 'scores'; .*or pass targets=a function"),
    ],
)  # fmt: skip
def test_outputs_without_a_target_name_what_explains_them(images, model, message):
    with pytest.raises((TypeError, ValueError), match=message):
        explain(model, images, chunk_size=48, **EXACT)


def test_a_dict_with_logits_of_classes(images):
    e = explain(lambda x: {"logits": embed(x), "loss": None}, images, 2, **EXACT).check()
    assert e.scores[:, 0].allclose(embed(images)[:, 2])


# ---- The contract --------------------------------------------------------------------------------


def test_scores_are_reported_in_words_and_the_old_names_hold():
    assert repr(Box([1, 2, 3, 4], 5)) == "Box(boxes=[1, 2, 3, 4], classes=5, top=1)"
    assert repr(Similarity(torch.zeros(2, 40))) == "Similarity(embedding=a tensor [2, 40])"
    assert repr(Region(np.zeros((9, 9)))).startswith("Region(masks=an array [9, 9], classes=None")
    scores = scores_of(Similarity([1.0, 2.0]), 1, 4, torch.device("cpu"))
    assert repr(scores) == "Similarity(embedding=[1.0, 2.0])"
    assert isinstance(scores_of(None, 1, 4, torch.device("cpu")), Classes)
    assert isinstance(scores_of(lambda outputs, rows: outputs, 1, 4, "cpu"), Computed)
    assert Targets is not None


@pytest.mark.parametrize("fits", [1, 3, 7])
def test_out_of_memory_counts_nothing_twice(images, quarters, fits):
    def model(x):
        if len(x) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return Detector()(x)

    ours = explain(model, images, Box(own_boxes()), chunk_size=16, **EXACT)
    theirs = explain(Detector(), images, Box(own_boxes()), **EXACT)
    assert ours.coefficients.allclose(theirs.coefficients, rtol=0, atol=1e-12)


def test_explained_inputs_are_not_modified(images, quarters):
    before = images.clone(), quarters.clone()
    boxes = own_boxes()
    explain(per_pixel, images, Region(quarters), **EXACT)
    explain(Detector(), images, Box(boxes), **EXACT)
    assert torch.equal(images, before[0])
    assert torch.equal(quarters, before[1])
    assert torch.equal(boxes, own_boxes())


def fake_detector(x):
    return [
        {
            "boxes": torch.empty(k, 4, device="cuda"),
            "labels": torch.zeros(k, dtype=torch.int64, device="cuda"),
            "scores": torch.empty(k, device="cuda"),
        }
        for k in [5, 0, 9, *[3] * (len(x) - 3)]
    ]


@pytest.mark.parametrize("chunk_size", [10, None])
@pytest.mark.parametrize("what", ["region", "best region", "box", "best box", "text", "own"])
def test_nothing_is_read_back(what, chunk_size):
    explainer = Lime(segmenter=Grid(8, 6), num_samples=128, chunk_size=chunk_size)
    with FakeTensorMode(), torch.device("cuda"):
        x = torch.empty(2, 3, 64, 48)
        masks, classes = torch.zeros(2, 64, 48).bool(), torch.zeros(2, 2, dtype=torch.int64)
        boxes = torch.empty(2, 2, 4)
        head = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        scores, model = {
            "region": (Region(masks, classes, unit="softmax"), lambda x: {"out": head(x)}),
            "best region": (Region(masks.float(), top=3), head),
            "box": (Box(boxes, classes), fake_detector),
            "best box": (Box(top=4), fake_detector),
            "text": (Similarity(torch.empty(4, 5)), lambda x: head(x).mean((2, 3))),
            "own": (Similarity(), lambda x: head(x).mean((2, 3))),
        }[what]
        with RefuseWaiting():
            e = explainer.explain(model, x, scores)
            repr(scores)
        assert e.coefficients.device.type == "cuda"
        assert e.coefficients.shape[1] == e.targets.shape[1]


@pytest.mark.parametrize("targets", [Region, Box, Similarity])
def test_a_class_in_the_place_of_its_object_has_a_sentence(images, targets):
    with pytest.raises(TypeError, match=f"is the class {targets.__name__} itself"):
        explain(per_pixel, images, targets, **EXACT)
