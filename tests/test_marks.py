"""Regions and boxes of photos: in their own pixels, at the command line and in jobs."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests import tiny
from torchlime import Lime, cli, explain, jobs
from torchlime.fills import Constant
from torchlime.models import Classifier, Geometry, Marks, RawOutputs, load
from torchlime.models.marks import boxes_in, region_of
from torchlime.segments import Grid
from torchlime.targets import Box, Region

FAST = ["--samples", "16", "--segments", "4", "--segmenter", "grid", "--fill", "0"]
SIZE = (40, 20)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_photo(name, side="left", size=SIZE):
    """Grey, with a red half."""
    image = Image.new("RGB", size, (90, 90, 90))
    start = 0 if side == "left" else size[0] // 2
    image.paste((255, 0, 0), (start, 0, start + size[0] // 2, size[1]))
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    image.save(name)
    return name


def save_mask(name, box, size=SIZE, value=255):
    mask = Image.new("L", size)
    mask.paste(value, box)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    mask.save(name)
    return name


def run(*arguments, model="detecting"):
    return cli.main(["explain", "--model", f"tests.tiny:{model}", *FAST, *map(str, arguments)])


# ---- From the photo to what the network sees -----------------------------------------------------

GEOMETRIES = [
    Geometry(),
    Geometry(resize=None, crop=None),
    Geometry(resize=(300, 200), crop=None, fit="stretch"),
    Geometry(resize=(100, 100), crop=(160, 160), fit="contain"),
    Geometry(resize=(97, 97), crop=(64, 80), halve_down=True),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=repr)
@pytest.mark.parametrize("size", [(640, 480), (333, 777)])
def test_a_box_and_its_mask_lie_at_one_place(geometry, size):
    """A mask is cut as the photo is; a box moves with it, to a pixel."""
    classifier = Classifier(torch.nn.Identity(), geometry)
    width, height = size
    box = (width // 3, height // 3, width // 2, height // 2)
    mask = region_of(Path(save_mask("m.png", box, size)), classifier, size)
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    around = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    for drawn, seen in zip(around, geometry.seen(box, size), strict=True):
        assert abs(drawn - seen) <= 1
    assert mask.shape == classifier.preprocess(Image.new("RGB", size)).shape[2:]


def test_boxes_are_cut_at_the_edges_and_outside_is_an_error():
    geometry = Geometry(resize=(20, 20), crop=(16, 16))
    assert geometry.seen((-5, -5, 100, 100), (40, 20)) == (0, 0, 16, 16)
    for outside, message in (
        ((0, 0, 5, 20), r"outside of what the network sees of the photo, .*\(12, 2, 28, 18\)"),
        ((40, 0, 50, 20), "the box .* holds nothing of the photo, which is 40 pixels wide and 20"),
    ):
        with pytest.raises(ValueError, match=message):
            geometry.seen(outside, (40, 20))


@pytest.mark.parametrize("value", [1, 2, 128, 255])
def test_any_brightness_is_inside(value):
    path = Path(save_mask("m.png", (10, 5, 20, 15), value=value))
    mask = region_of(path, Classifier(torch.nn.Identity(), Geometry(None, None)), SIZE)
    expected = torch.zeros(20, 40, dtype=torch.bool)
    expected[5:15, 10:20] = True
    assert torch.equal(mask, expected)


# ---- The command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(("box", "label", "segment"), [("0,0,20,20", 1, 0), ("20,0,40,20", 2, 1)])
def test_a_box(capsys, box, label, segment):
    assert run(save_photo("a.png", "left" if label == 1 else "right"), "--target-box", box) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[1] == ["cat", "dog"][label - 1]
    record = json.loads(Path("explanation.json").read_text())
    assert record["settings"]["target-box"] == box
    (target,) = record["targets"]
    assert target["index"] == label
    assert sorted(target["strongest"][:2]) == [segment, segment + 2]


def test_a_box_is_in_pixels_of_the_photo(capsys):
    """A quarter of the photo overlaps a half by a half, whatever the network's own size is."""
    assert run(save_photo("a.png"), "--target-box", "0,0,20,10", "--target", "cat", "--json") == 0
    (half,) = json.loads(capsys.readouterr().out)["photos"][0]["targets"]
    assert run("a.png", "--target-box", "0,0,20,20", "--target", "cat", "--json") == 0
    (whole,) = json.loads(capsys.readouterr().out)["photos"][0]["targets"]
    assert half["score"] == pytest.approx(whole["score"] / 2)
    assert whole["score"] == pytest.approx(1.0)


def test_a_region(capsys):
    photo = save_photo("a.png")
    for box, category, segment in (((12, 2, 19, 9), "red", 0), ((21, 11, 28, 18), "", 3)):
        mask = save_mask("mask.png", box)
        assert run(photo, "--target-region", mask, "--json", model="painting") == 0
        (target,) = json.loads(capsys.readouterr().out)["photos"][0]["targets"]
        assert target["strongest"][:1] == [segment] or category == ""
        assert 0 < target["score"] < 1  # a probability, as --output says
        assert category in ("", target["category"])
    flags = ["--target-region", "mask.png", "--target", "blue", "--target", "green"]
    assert run(photo, *flags, "--save", "it.npz", model="painting") == 0
    assert len(list(Path().glob("explanation.*-*.png"))) == 2


def test_the_command_line_explains_as_the_library_does(capsys):
    photo, mask = save_photo("a.png"), save_mask("mask.png", (12, 2, 19, 9))
    assert run(photo, "--target-region", mask, "--json", model="painting") == 0
    (target,) = json.loads(capsys.readouterr().out)["photos"][0]["targets"]
    classifier = tiny.painting()
    region = region_of(Path(mask), classifier, SIZE)
    explainer = Lime(segmenter=Grid(2, 2), num_samples=16, fill=Constant(0.0))
    ours = explainer.explain(
        RawOutputs(classifier), classifier.preprocess(photo), Region(region, unit="softmax")
    )
    assert ours.coefficients[0, 0].tolist() == pytest.approx(target["coefficients"])


def test_each_photo_has_its_own(capsys):
    photos = [save_photo("a.png"), save_photo("b.png", "right")]
    Path("boxes.csv").write_text(
        "photo,x0,y0,x1,y1,note\nb.png,20,0,40,20,right\na.png,0,0,20,20,left\nc.png,0,0,1,1,\n"
    )
    assert run(*photos, "--target-box", "boxes.csv", "--json") == 0
    found = json.loads(capsys.readouterr().out)["photos"]
    assert [photo["targets"][0]["category"] for photo in found] == ["cat", "dog"]
    save_mask("masks/a.png", (12, 2, 19, 9))
    assert run(*photos, "--target-region", "masks", "--json", model="painting") == 1
    found, errors = json.loads(capsys.readouterr().out)["photos"], [None, "masks/b.png"]
    assert ["error" in photo for photo in found] == [False, True]
    assert errors[1] in found[1]["error"]


def make_inputs():
    save_photo("a.png")
    save_mask("mask.png", (12, 2, 19, 9))
    save_mask("small.png", (0, 0, 3, 3), (20, 10))
    save_mask("black.png", (0, 0, 3, 3), value=0)
    save_mask("outside.png", (0, 0, 5, 20))
    clear = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    clear.save("clear.png")
    os.mkdir("empty")
    Path("text.png").write_text("hello")
    Path("other.csv").write_text("photo,x0,y0,x1,y1\nb.png,1,1,2,2\n")
    Path("columns.csv").write_text("file,x0,y0,x1\na.png,1,1,2\n")
    Path("twice.csv").write_text("photo,x0,y0,x1,y1\na.png,1,1,2,2\na.png,1,1,3,3\n")
    Path("wrong.csv").write_text("photo,x0,y0,x1,y1\na.png,1,1,2,2\nb.png,5,1,5,2\n")


BAD = {
    "--target-box 1,2,3": (2, "--target-box: '1,2,3' is no box x0,y0,x1,y1"),
    "--target-box a,b,c,d": (2, "--target-box: 'a,b,c,d' is no box x0,y0,x1,y1"),
    "--target-box nan,0,1,1": (2, "--target-box: the box nan,0,1,1 must have four finite"),
    "--target-box=-inf,0,1,1": (2, "--target-box: the box -inf,0,1,1 must have four finite"),
    "--target-box 30,0,10,10": (2, "--target-box: the box 30,0,10,10 is empty: x0 must be below x"),
    "--target-box gone.csv": (2, "--target-box: there is no table of boxes gone.csv"),
    "--target-box columns.csv": (2, "--target-box: columns.csv must have the columns photo, x0, y"),
    "--target-box twice.csv": (2, "--target-box: twice.csv, line 3: a.png has a box already"),
    "--target-box wrong.csv": (2, "--target-box: wrong.csv, line 3: the box 5,1,5,2 is empty"),
    "--target-box 1,1,9,9 --top 2": (2, "--top and --target-box exclude each other: a box is one"),
    "--target-box 1,1,9,9 --target-region mask.png": (2, "--target-region and --target-box exclud"),
    "--target-region gone.png": (2, "--target-region: there is no file or folder gone.png"),
    "--target-region mask.png --out mask.png": (2, "cannot write mask.png: this call reads that f"),
    "--target-box other.csv": (1, "the table of boxes has none for a.png"),
    "--target-box 50,0,60,10": (1, "a.png: the box (50, 0, 60, 10) holds nothing of the photo"),
    "--target-box 0,0,20,20 --target 0": (1, "a.png: the explanation is not to be trusted. a targ"),
    "--target-region small.png": (1, "a.png: small.png is 20×10 pixels, but the photo is 40×20: a"),
    "--target-region black.png": (1, "a.png: black.png is black all over: no pixel is inside"),
    "--target-region clear.png": (1, "a.png: clear.png is transparent in parts: save the mask as"),
    "--target-region text.png": (1, "a.png: text.png is not an image that Pillow can read"),
    "--target-region empty": (1, "there is no mask empty/a.png"),
    "--model tests.tiny:painting --target-region outside.png": (1, "a.png: the region in outside."),
    "--model tests.tiny:painting": (1, "a.png: a classifier's network gives logits [n,K] or [n], "),
    "--top 1": (1, "a.png: a classifier's network gives logits [n,K] or [n], got dict; for a segm"),
    "--target-region mask.png": (1, "a.png: for a Region the model must return floats [17,classes"),
    "--model tests.tiny:painting --target-box 9,9,19,19": (1, "a.png: for a Box the model must re"),
}  # fmt: skip


@pytest.mark.parametrize("command", BAD)
def test_bad_commands(capsys, command):
    make_inputs()
    code, message = BAD[command]
    assert run("a.png", *command.split(" ")) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(f"torchlime: {message}"), captured.err
    assert len(captured.err.splitlines()) == 1


# ---- Jobs ----------------------------------------------------------------------------------------

LIME = Lime(segmenter=Grid(2, 2), num_samples=16, fill=Constant(0.0))


def job(*arguments, model="detecting"):
    command = ["job", "photos", "--out", "out", "--model", f"tests.tiny:{model}", "--workers", "0"]
    return cli.main([*command, *FAST, *arguments])


def make_folder():
    for name, side in (("cats/1.png", "left"), ("cats/2.png", "right"), ("dogs/1.png", "right")):
        save_photo(f"photos/{name}", side)


def test_a_job_over_a_table_of_boxes(capsys):
    pytest.importorskip("pyarrow")
    make_folder()
    Path("boxes.csv").write_text("photo,x0,y0,x1,y1\ncats/1.png,0,0,20,10\ndogs/1.png,20,0,40,20\n")
    assert job("--target-box", "boxes.csv", "--pictures") == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 photos; explaining the best class, boxes of a table", "2 explained; wrote out",
    ]  # fmt: skip
    found = jobs.read("out")
    rows = {name: found.row(name) for name in found}
    assert rows["cats/1.png"]["target_box"] == [0, 0, 20, 10]
    assert rows["dogs/1.png"]["target_box"] == [20, 0, 40, 20]
    assert [row["target_names"] for row in rows.values()] == [["cat"], ["dog"]]
    assert {row["predicted_name"] for row in rows.values()} == {None}
    assert rows["cats/1.png"]["scores"] == pytest.approx([0.5])
    classifier = tiny.detecting()
    ours = LIME.explain(
        RawOutputs(classifier), classifier.preprocess("photos/cats/1.png"), Box([0, 0, 20, 10]),
        seed=torch.tensor([rows["cats/1.png"]["seed"]]),
    )  # fmt: skip
    assert torch.equal(found["cats/1.png"].coefficients, ours.coefficients)
    assert cli.main(["report", "out", "--out", "it.html"]) == 0
    assert "explained: cat" in Path("it.html").read_text()
    assert job("--target-box", "boxes.csv") == 0
    assert "0 explained; 2 were there already" in capsys.readouterr().out
    assert job("--target-box", "0,0,20,20") == 2
    assert "part: boxes of a table, not the box (0.0, 0.0, 20.0, 20.0)" in capsys.readouterr().err
    Path("boxes.csv").write_text("photo,x0,y0,x1,y1\n1.png,0,0,20,10\n")
    assert job("--target-box", "boxes.csv") == 2
    assert "the table of boxes names none of the photos in photos" in capsys.readouterr().err


def test_a_job_over_a_folder_of_masks(capsys):
    pytest.importorskip("pyarrow")
    make_folder()
    save_mask("masks/cats/1.png", (12, 2, 19, 9))
    save_mask("masks/dogs/1.png", (21, 2, 27, 18))
    assert job("--target-region", "masks", "--target", "red", model="painting") == 0
    found = jobs.read("out")
    assert sorted(found) == ["cats/1.png", "dogs/1.png"]
    assert "there is no mask masks/cats/2.png" in found.failures["cats/2.png"]
    assert found.row("cats/1.png")["target_region"] == "masks/cats/1.png"
    assert found.row("cats/1.png")["targets"] == [0]
    assert found["cats/1.png"].top(1)[0].tolist() == [[[0]]]
    save_mask("masks/cats/2.png", (21, 2, 27, 18))
    assert job("--target-region", "masks", "--target", "red", "--retry", model="painting") == 0
    assert len(jobs.read("out")) == 3


def test_one_box_for_all_and_a_label(capsys):
    pytest.importorskip("pyarrow")
    make_folder()
    assert job("--target-box", "20,0,40,20", "--label", "dogs", "--target", "dog") == 0
    assert "explaining 'dog' (2), the box (20.0, 0.0, 40.0, 20.0)" in capsys.readouterr().out
    row = jobs.read("out").row("dogs/1.png")
    assert (row["targets"], row["target_box"]) == ([2], [20, 0, 40, 20])


# ---- torchvision's networks ----------------------------------------------------------------------


def test_torchvision_networks_by_name(capsys):
    photo = save_photo("a.png", size=(64, 48))
    network = load("torchvision:lraspp_mobilenet_v3_large", None)
    assert network.geometry.resized((64, 48)) == (693, 520)
    assert network.find_category("cat") == 8
    torch.save(network.network.state_dict(), "mine.pth")
    again = load("torchvision:lraspp_mobilenet_v3_large", "mine.pth")
    pixels = torch.rand(1, 3, 32, 32)
    first, second = (RawOutputs(n)(pixels)["out"] for n in (network, again))
    assert torch.equal(first, second)
    assert load("torchvision:squeezenet1_1", None).categories[0] == "tench"
    detector = load("torchvision:ssdlite320_mobilenet_v3_large", None)
    assert (detector.output, detector.find_category("cat")) == ("none", 17)
    assert torch.equal(detector.preprocess(photo), load("tests.tiny:detecting").preprocess(photo))
    assert detector.network.score_thresh <= 0.01
    for wrong, message in (
        ("torchvision:fcn_resnet5", "torchvision has no image network 'fcn_resnet5' (nearest: fcn"),
        ("torchvision:fcn_resnet50", "'gone.pth' is neither a file nor one of the weights of fcn_"),
    ):  # fmt: skip
        with pytest.raises((ValueError, FileNotFoundError), match=".*") as caught:
            load(wrong, "gone.pth")
        assert str(caught.value).startswith(message)


def test_detectors_keep_faint_boxes():
    for name in ("fasterrcnn_mobilenet_v3_large_320_fpn", "fcos_resnet50_fpn"):
        network = load(f"torchvision:{name}", None).network
        assert getattr(network, "roi_heads", network).score_thresh == 0.01


def test_marks_say_what_they_are():
    assert str(Marks(region="masks")) == "the region masks"
    for wrong in ({}, {"region": "masks", "boxes": (0, 0, 1, 1)}):
        with pytest.raises(ValueError, match="marks are a region or boxes, one of both"):
            Marks(**wrong)
    Path("odd.csv").write_text("photo,x0,y0,x1,y1\nmy cats/é.png,0,0,1,1\n", encoding="utf-8-sig")
    assert boxes_in("odd.csv") == {"my%20cats/%C3%A9.png": (0, 0, 1, 1)}


def test_raw_outputs_are_those_of_the_network_on_normalised_pixels():
    classifier = Classifier(tiny.Painting(), Geometry())
    pixels = torch.rand(2, 3, 8, 8)
    expected = 4 * (pixels - classifier.mean) / classifier.std
    assert RawOutputs(classifier)(pixels)["out"].allclose(expected)
    e = explain(RawOutputs(classifier), pixels, Region(np.ones((8, 8), bool)), num_samples=64,
                segmenter=Grid(2, 2))  # fmt: skip
    assert e.check().targets.shape == (2, 1)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"\xff\xfephoto", "is no text in UTF-8"),
        (b"photo,x0,y0,x1,y1\n,0,0,1,1\n", "line 2: the photo has no name"),
    ],
)
def test_a_broken_table_of_boxes_is_named(tmp_path, table, message):
    path = tmp_path / "boxes.csv"
    path.write_bytes(table)
    with pytest.raises(ValueError, match=f"boxes.csv.* {message}|boxes.csv, {message}"):
        boxes_in(path)
