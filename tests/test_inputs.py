"""What callers hold, at the boundary: arrays, PIL images, lists; and keywords that are mistyped."""

import copy
import pickle

import numpy as np
import pytest
import torch

from torchlime import Lime, VectorLime, explain, explain_vector
from torchlime._inputs import as_images
from torchlime.fills import Constant
from torchlime.lime import ExplainSettings, LimeSettings
from torchlime.segments import Grid
from torchlime.vectors import ExplainVectorSettings, VectorSettings

SETTINGS = {"segmenter": Grid(2, 2), "fill": Constant(0.0), "num_samples": 32}
PIXELS = torch.rand(2, 3, 8, 8, generator=torch.manual_seed(0))


def model(x):
    return x.mean((2, 3))


def same(ours, theirs):
    assert torch.equal(ours.coefficients, theirs.coefficients)
    assert torch.equal(ours.targets, theirs.targets)


def test_arrays_pil_images_and_lists_are_taken():
    Image = pytest.importorskip("PIL.Image")
    small = (PIXELS * 255).byte()
    arrays = small.permute(0, 2, 3, 1).numpy()
    expected = explain(model, small.float() / 255, **SETTINGS)
    for images in (
        arrays,
        list(arrays),
        [Image.fromarray(array) for array in arrays],
        [Image.fromarray(arrays[0]), arrays[1]],
        small.numpy(),  # channels first, since no last axis is 1, 3 or 4
    ):
        same(explain(model, images, **SETTINGS), expected)
    same(explain(model, Image.fromarray(arrays[0]), **SETTINGS), expected[0])
    same(explain(model, arrays[0], **SETTINGS), expected[0])
    floats = PIXELS.permute(0, 2, 3, 1).numpy()
    same(explain(model, floats, **SETTINGS), explain(model, PIXELS, **SETTINGS))
    grey = Image.fromarray(arrays[0, ..., 0])
    same(explain(model, grey, **SETTINGS), explain(model, small[:1, :1].float() / 255, **SETTINGS))


def test_arrays_go_to_the_models_device():
    net = torch.nn.Linear(12, 2, device="meta")
    assert as_images(np.zeros((1, 2, 2, 3), np.uint8), net).device.type == "meta"
    assert as_images(np.zeros((1, 2, 2, 3), np.uint8), model).device.type == "cpu"
    assert as_images(PIXELS, net).device.type == "cpu"  # a tensor is taken as it is


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (
            np.zeros((2, 5, 8, 8)),
            ValueError,
            r"be \[B,H,W,C\] or .*, got \[2, 5, 8, 8\]; pass",
        ),
        ([PIXELS[0], PIXELS[0, :, :4]], ValueError, "images of one call must have one size"),
        ("photo.jpg", TypeError, "float tensor .* or PIL images, got str"),
        (np.array(["a"]), ValueError, "an array of images must be"),
    ],
)
def test_what_cannot_be_images(images, error, message):
    with pytest.raises(error, match=message):
        explain(model, images, **SETTINGS)


def test_channels_last_tensors_are_told():
    with pytest.warns(
        UserWarning, match=r"look channels-last, .* pass images.movedim\(-1, 1\)"
    ) as w:
        explain(model, torch.rand(1, 20, 20, 3), 0, segmenter=Grid(2, 2), num_samples=16)
    assert w[0].filename == __file__


def test_label_maps_and_targets_may_be_arrays_and_lists():
    labels = torch.arange(64).view(8, 8) // 16
    expected = explain(model, PIXELS, torch.tensor([2, 0]), segments=labels, num_samples=32)
    for dtype in (np.int64, np.int32, np.uint8, np.uint16, np.uint32):
        given = labels.numpy().astype(dtype)
        same(explain(model, PIXELS, [2, 0], segments=given, num_samples=32), expected)
    same(explain(model, PIXELS, np.array([2, 0]), segments=labels, num_samples=32), expected)
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    two = explain_vector(lambda z: z, x, [[0, 1], [1, 0]], num_samples=20)
    assert two.targets.tolist() == [[0, 1], [1, 0]]
    same(two, explain_vector(lambda z: z, torch.from_numpy(x), two.targets, num_samples=20))


def test_a_tensor_as_fill_compares_hashes_copies_and_prints():
    tensor = torch.rand(3, 1, 1)
    one, other = Lime(fill=tensor), Lime(fill=tensor.clone())
    assert one == other
    assert hash(one) == hash(other)
    assert one != Lime(fill=tensor + 1)
    assert one != Lime(fill=tensor[:, 0])
    assert one != Lime()
    assert pickle.loads(pickle.dumps(one)) == one == copy.deepcopy(one)
    e = explain(model, PIXELS, **{**SETTINGS, "fill": tensor})
    assert e.settings["fill"] == "a tensor [3, 1, 1]"
    assert e.explainer == Lime(**{**SETTINGS, "fill": tensor})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: explain(model, PIXELS, num_sample=3),
            r"explain\(\) .*'num_sample'; did .*'num_",
        ),
        (lambda: explain_vector(model, PIXELS, sale=3), r"'sale'; did you mean 'scale'\?"),
        (lambda: Lime(kernal=3), r"Lime\(\) has no keyword 'kernal'; did you mean 'kernel'\?"),
        (
            lambda: VectorLime(xyz=3),
            r"VectorLime\(\) has no keyword 'xyz'; it takes autocast, ",
        ),
        (lambda: Lime(Grid(2, 2)), "positional"),
    ],
)
def test_an_unknown_keyword_is_answered_with_the_nearest(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("settings", "typed", "call"),
    [(Lime, LimeSettings, ExplainSettings), (VectorLime, VectorSettings, ExplainVectorSettings)],
)
def test_typed_keywords_are_those_of_the_settings_and_of_explain(settings, typed, call):
    import dataclasses
    import inspect

    fields = {field.name: field for field in dataclasses.fields(settings)}
    assert set(typed.__annotations__) == fields.keys() - {"seed"}  # explain(seed=) takes more
    assert all(field.kw_only for field in fields.values())
    for name, annotation in typed.__annotations__.items():
        assert annotation == fields[name].type, name
    parameters = inspect.signature(settings.explain).parameters.values()
    keywords = {p.name for p in parameters if p.kind == p.KEYWORD_ONLY}
    assert set(call.__annotations__) == set(typed.__annotations__) | keywords


def test_one_segment_is_told():
    with pytest.warns(
        UserWarning, match=r"one segment as a whole, .* Slic\(num_segments=50\)"
    ) as w:
        explain(model, PIXELS, segments=torch.zeros(8, 8).long(), num_samples=8)
    assert w[0].filename == __file__


def test_a_label_map_in_the_segmenters_place_is_told_where_it_goes():
    with pytest.raises(TypeError, match=r"segmenter must .* got a label map, .* explain\(seg"):
        explain(model, PIXELS, segmenter=np.zeros((8, 8), int))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda P: P.new("I;16", (8, 8)), ValueError, "mode 'I;16' has no range that is known"),
        (lambda P: P.new("F", (8, 8)), ValueError, "mode 'F' has no range that is known"),
        (
            lambda P: [P.new("L", (8, 8)), P.new("RGB", (8, 8))],
            ValueError,
            "must have one channels",
        ),
        (lambda P: [], ValueError, "must hold at least one image, got an empty list"),
        (
            lambda P: np.zeros((3, 8, 9)),
            ValueError,
            r"no image .*np.moveaxis\(image, 0",
        ),
        (lambda P: [np.zeros((8, 8, 3)), np.zeros((8, 8, 3), np.uint8)], ValueError, "one dtype"),
    ],
)
def test_pictures_and_arrays_that_cannot_be_meant(make, error, message):
    Image = pytest.importorskip("PIL.Image")
    with pytest.raises(error, match=message):
        explain(model, make(Image), **SETTINGS)


def test_transparency_is_laid_on_white_and_byte_orders_are_turned():
    Image = pytest.importorskip("PIL.Image")
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    white = explain(model, torch.ones(1, 3, 8, 8), **SETTINGS)
    same(explain(model, clear, **SETTINGS), white)
    big = PIXELS.permute(0, 2, 3, 1).numpy().astype(">f4")
    same(explain(model, big, **SETTINGS), explain(model, PIXELS, **SETTINGS))


def test_settings_of_vectors_compare_too():
    one, other = VectorLime(scale=torch.ones(3)), VectorLime(scale=torch.ones(3))
    assert one == other
    assert hash(one) == hash(other)
    assert one != VectorLime(scale=torch.zeros(3))
    assert one != VectorLime(scale=0.1)


def test_a_subclass_may_take_arguments_of_its_own():
    class Named(Lime):
        def __init__(self, name, **settings):
            super().__init__(**settings)
            object.__setattr__(self, "name", name)

    assert Named("x", num_samples=64).num_samples == 64


def test_the_explainer_of_an_explanation_draws_its_masks():
    e = explain(model, PIXELS, seed=np.int64(7), keep_samples=True, **SETTINGS)
    assert e.settings["seed"] == e.explainer.seed == 7
    assert torch.equal(e.explainer.samples(model, PIXELS).design, e.masks)
