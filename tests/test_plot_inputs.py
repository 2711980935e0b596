"""What plot takes and gives: photos of any kind, PIL images, file objects, names, units."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.test_plot import BOX, GREY, SIX, WIDE, bar_runs, one
from torchlime import explain, plot
from torchlime._kinds import VECTORS
from torchlime.fills import Constant
from torchlime.plot import _words, charts, sheets
from torchlime.plot._evidence import evidence_of
from torchlime.plot._text import face_of
from torchlime.segments import Grid

PHOTO = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
ARRAY = PHOTO.permute(1, 2, 0).numpy()
EXPLANATION = one([1.0, -2.0, 0, 0.5, 0, 0], SIX)


@pytest.mark.parametrize(
    "same",
    [
        PHOTO[None],
        PHOTO.double() / 255,
        ARRAY,
        ARRAY / 255,
        (ARRAY / 255).astype(np.float32),
        np.asfortranarray(ARRAY)[:, ::-1][:, ::-1],  # any strides
        (ARRAY / 255).astype(">f8"),  # any byte order
        ARRAY.astype(np.uint16) * 257,
        Image.fromarray(ARRAY),
        Image.fromarray(ARRAY).convert("RGBA"),
    ],
)
def test_anything_photo_like_is_the_same_photo(same):
    for draw in (plot.overlay, plot.heatmap_picture, plot.sheet):
        assert torch.equal(draw(EXPLANATION, same), draw(EXPLANATION, PHOTO))
    assert torch.equal(plot.photo(same), PHOTO)
    assert torch.equal(plot.boundaries(SIX.numpy(), same), plot.boundaries(SIX, PHOTO))
    larger, box = plot.resized(same, (0, 0, 60, 40), (80, 120))
    expected, _ = plot.resized(PHOTO, (0, 0, 60, 40), (80, 120))
    assert torch.equal(larger, expected)
    assert box == (0, 0, 120, 80)
    assert torch.equal(plot.photo(plot.resized(same, (0, 0, 60, 40), (40, 60))[0]), PHOTO)


def test_grey_photos_of_all_kinds():
    grey = PHOTO[:1].expand(3, -1, -1)
    array = PHOTO[0].numpy()
    for same in (array, array[:, :, None], array / 255, array.astype(np.uint16) * 257,
                 Image.fromarray(array), Image.fromarray(array.astype(np.uint16) * 257),
                 PHOTO[:1]):  # fmt: skip
        assert torch.equal(plot.photo(same), grey)
    mask = array > 127
    black_and_white = torch.from_numpy(mask).byte()[None].expand(3, -1, -1) * 255
    for same in (mask, Image.fromarray(mask)):
        assert torch.equal(plot.photo(same), black_and_white)
    ramp = torch.tensor([[0, 128, 255]], dtype=torch.uint8).expand(3, 1, 3)
    for wide in (Image.fromarray(np.array([[-2, 0, 2]], np.float32)),
                 Image.fromarray(np.array([[-1000, 0, 1000]], np.int32))):  # fmt: skip
        assert torch.equal(plot.photo(wide), ramp)


def test_pil_images_are_upright_and_laid_on_white():
    image = Image.fromarray(ARRAY)
    image.getexif()[0x0112] = 6  # it was taken with the camera on its side
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=image.getexif())
    turned = plot.photo(Image.open(buffer))
    assert torch.equal(turned, PHOTO.transpose(1, 2).flip(2))
    assert (plot.photo(Image.new("RGBA", (2, 2), (0, 0, 0, 0))) == 255).all()
    paletted = Image.new("P", (2, 2))
    paletted.info["transparency"] = 0
    assert (plot.photo(paletted) == 255).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (ARRAY.transpose(2, 0, 1), r"\[H,W,C\].*\[3, 40, 60\].*torch.from_numpy\(image\)"),
        (ARRAY[None], r"\[H,W\] or \[H,W,C\].*\[1, 40, 60, 3\]"),
        (PHOTO.permute(1, 2, 0), r"\[C,H,W\].*\[40, 60, 3\].*permute\(2, 0, 1\)"),
        (ARRAY[:, :0], "at least one pixel"),
    ],
)
def test_other_shapes_are_refused_with_what_to_do(image, message):
    with pytest.raises(ValueError, match=message):
        plot.overlay(EXPLANATION, image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (ARRAY.astype(np.int64), "uint8 or floating point, got int64"),
        (ARRAY.tolist(), r"a tensor \[C,H,W\], an array \[H,W,C\] or a PIL image, got list"),
        ("cat.png", "got str"),
    ],
)
def test_other_types_are_refused(image, message):
    with pytest.raises(TypeError, match=message):
        plot.overlay(EXPLANATION, image)


def test_a_picture_is_a_pil_image_too():
    image = plot.to_pil(PHOTO)
    assert (image.mode, image.size) == ("RGB", (60, 40))
    assert np.array_equal(np.array(image), ARRAY)
    assert torch.equal(plot.photo(image), PHOTO)
    image.putpixel((0, 0), (1, 2, 3))
    assert torch.equal(plot.photo(ARRAY), PHOTO)  # it has pixels of its own
    for other in (PHOTO.float(), ARRAY):
        with pytest.raises(TypeError, match="uint8"):
            plot.to_pil(other)


def test_save_png_takes_a_pil_image():
    files = io.BytesIO(), io.BytesIO()
    plot.save_png(PHOTO, files[0])
    plot.save_png(plot.to_pil(PHOTO), files[1])
    assert files[0].getvalue() == files[1].getvalue()


def test_save_png_takes_an_open_file(tmp_path):
    buffer = io.BytesIO()
    plot.save_png(PHOTO, buffer)
    assert not buffer.closed
    assert torch.equal(plot.photo(Image.open(buffer)), PHOTO)
    with open(tmp_path / "a.png", "wb") as file:
        plot.save_png(PHOTO, file)
    assert (tmp_path / "a.png").read_bytes() == buffer.getvalue()


# Words


def vector(coefficients):
    explanation = one(coefficients, torch.zeros(1, 1, dtype=torch.long))
    explanation.segments, explanation.kind = None, VECTORS
    explanation.segment_count = torch.tensor([len(coefficients)])
    return explanation


def test_the_axis_names_its_unit():
    def title(explanation, **words):
        return _words.axis_title(evidence_of(explanation, None, pixels=False, **words))

    assert title(EXPLANATION, name="tiger cat", unit="probability") == "probability of tiger cat"
    assert title(EXPLANATION) == "score of class 7"
    benign = vector([1.0])
    assert title(benign, name="benign", unit="logit") == "logit of benign per unit of the feature"


def rows_drawn(monkeypatch, *given, **named):
    drawn = []
    monkeypatch.setattr(charts, "chart", lambda rows, *_: drawn.extend(rows))
    plot.bars(*given, **named)
    return [(row.rank, row.label) for row in drawn]


def test_rows_say_what_can_be_seen(monkeypatch):
    assert rows_drawn(monkeypatch, EXPLANATION) == [(1, ""), (2, ""), (3, "")]
    names = ["ear", "eye", "nose", "chin", "neck", "sky"]
    assert rows_drawn(monkeypatch, EXPLANATION, names=names) == [
        (1, "eye"), (2, "ear"), (3, "chin"),
    ]  # fmt: skip
    assert rows_drawn(monkeypatch, vector([1.0, 3.0])) == [(None, "feature 1"), (None, "feature 0")]
    named = rows_drawn(monkeypatch, vector([1.0, 3.0]), names=np.array(["age", "income"]))
    assert named == [(None, "income"), (None, "age")]


def test_names_must_be_one_for_each():
    with pytest.raises(ValueError, match="6 names, got 2"):
        plot.bars(EXPLANATION, names=["a", "b"])
    with pytest.raises(TypeError, match="got the str 'abcdef'"):
        plot.bars(EXPLANATION, names="abcdef")


def test_bars_grow_with_their_rows_unless_a_size_is_asked():
    many = vector([float(i) for i in range(1, 31)])
    few, all_of_them = plot.bars(many, top=3), plot.bars(many, top=30)
    assert few.shape[2] == all_of_them.shape[2] == 480
    assert len(bar_runs(all_of_them, plot.FOR)) == 30
    assert all_of_them.shape[1] > 3 * few.shape[1]
    assert plot.bars(many, top=30, size=(300, 200)).shape == (3, 200, 300)


@pytest.mark.parametrize("values", [[-0.1, -0.2, -0.35], [0.001, 0.002], [-1e6, 3e6], [5.0, -5.0]])
@pytest.mark.parametrize("size", [(480, 320), (240, 180), (1000, 300)])
def test_nothing_is_cut_off_at_the_edges(values, size):
    names = ["a rather long name of a feature (standardised)"] * len(values)
    picture = plot.bars(
        vector(values), size=size, names=names, name="a class with a long name " * 4
    )
    assert (picture[:, :, :1] == 255).all()
    assert (picture[:, :, -1:] == 255).all()
    assert (picture[:, -1:] == 255).all()


def test_ticks_are_as_many_as_have_room():
    def labels(width):
        rows = charts.rows_of(evidence_of(EXPLANATION, None), [0, 1, 3])
        place = charts._laid_out(rows, charts.face_of(), (width, 300), 16)
        high = place.low + (place.right - place.left) / place.scale
        return charts._spaced_ticks(place, charts.face_of(), high)

    counts = [len(labels(width)) for width in (120, 240, 480, 960)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] <= 7


# Sheets and figures


def test_a_tiny_photo_is_enlarged_on_its_sheet_in_square_pixels():
    labels = torch.arange(16).view(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1)
    digit = torch.rand(1, 8, 8)
    sheet = plot.sheet(one([0.0] * 15 + [1.0], labels), digit)
    assert sheet.shape[2] > 2 * 272
    large = plot.photo(digit).repeat_interleave(34, 1).repeat_interleave(34, 2)
    found = sheet.unfold(2, 272, 1)[:, :, :40] == large[:, 0, None, None]
    assert found.all(3).all(0).any()
    small = plot.sheet(one([0.0] * 15 + [1.0], labels), digit, max_side=80)
    assert small.shape[1] < sheet.shape[1]


@pytest.mark.parametrize("size", [(20, 40), (40, 20), (4, 90), (90, 4), (30, 30)])
@pytest.mark.parametrize("coefficients", [[0.0, 0.0], [1.0, 0.0], [1.0, -1.0]])
def test_a_sheet_of_any_shape(size, coefficients):
    labels = torch.zeros(size, dtype=torch.long)
    labels[0] = 1
    sheet = plot.sheet(one(coefficients, labels), torch.rand(3, *size))
    assert (sheet[:, :, :8] == 255).all()
    assert (sheet[:, :, -8:] == 255).all()


def test_panels_of_a_row_are_level_where_one_title_needs_two_lines():
    look = sheets._look(90, 90, face_of())
    panel = torch.zeros(3, 90, 90, dtype=torch.uint8)
    row = sheets._row(
        [("photo", panel), ("a title that needs more than one line " * 2, panel)], look
    )
    left, right = (row == 0).all(0)[:, [45, look.panel + look.gap + 45]].T
    assert left.sum() == 90
    assert torch.equal(left, right)


def test_a_sheet_refuses_a_photo_of_another_size_without_a_box():
    with pytest.raises(ValueError, match=r"100×200.*40×60"):
        plot.sheet(EXPLANATION, WIDE)
    assert plot.sheet(EXPLANATION, WIDE, box=BOX).shape[0] == 3


@pytest.mark.parametrize("width", [85, 170])
@pytest.mark.parametrize("size", [(40, 60), (30, 120), (120, 30)])
def test_all_of_a_figures_text_lies_inside(width, size):
    pytest.importorskip("matplotlib")
    labels = torch.arange(6).view(2, 3)
    labels = labels.repeat_interleave(size[0] // 2, 0).repeat_interleave(size[1] // 3, 1)
    errors = torch.full((1, 1, 6), 0.01, dtype=torch.float64)
    explanation = one([0.1, -0.2, 0.3, 0.05, 0, 0], labels, standard_errors=errors)
    figure = plot.figure(
        explanation, torch.rand(3, *size), width=width, unit="probability",
        name="hen-of-the-woods, hen of the woods", caption="a caption of many words " * 6,
    )  # fmt: skip
    assert figure.get_figwidth() == pytest.approx(width / 25.4)
    figure.draw_without_rendering()
    edges = figure.bbox
    texts = [figure._suptitle, figure._supxlabel]
    for axes in figure.axes:
        texts += [axes._left_title, axes.xaxis.label]
    chart = figure.axes[-1]
    texts += [*chart.get_yticklabels(), *chart.get_xticklabels()[1:-1]]
    for text in (text for text in texts if text.get_text()):
        extent = text.get_window_extent()
        assert extent.x0 >= 0, text
        assert extent.x1 <= edges.x1, text
        assert extent.y0 >= 0, text
        assert extent.y1 <= edges.y1, text
    assert chart.get_xlabel().replace("\n", " ") == (
        "probability of hen-of-the-woods, hen of the woods"
    )


def test_a_figure_without_errors_claims_no_intervals():
    pytest.importorskip("matplotlib")
    figure = plot.figure(EXPLANATION, GREY, name="tiger cat")
    assert figure.get_supxlabel().startswith("Blue speaks for tiger cat")
    assert "95 %" not in figure.get_supxlabel()
    assert not figure.axes[-1].collections


def test_bars_of_several_inputs_say_whose_a_segment_is(monkeypatch):
    a, b = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 6, 6)
    e = explain(
        lambda a, b: a.mean((2, 3)) + b.mean((2, 3)), (a, b), segmenter=Grid(1, 2), num_samples=32,
        fill=Constant(0.0),
    )  # fmt: skip
    ids = e.top(4)[0][0, 0].tolist()
    assert sorted(ids) == [0, 1, 2, 3]
    assert rows_drawn(monkeypatch, e) == [  # nothing shows a rank
        (None, f"segment {i} of input[{i // 2}]") for i in ids
    ]


def test_long_names_stand_in_two_lines(monkeypatch):
    from PIL import ImageDraw

    written = []
    draw = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text",
        lambda self, at, text, *more, **named: written.append(text)
        or draw(self, at, text, *more, **named),
    )  # fmt: skip
    e = vector([2.0, 1.0])
    names = ["515.30 < worst area of all <= 686.50", "age"]
    high = plot.bars(e, names=names)
    assert [part for part in written if "worst" in part or "686" in part] == [
        "515.30 < worst area of all", "<= 686.50",
    ]  # fmt: skip
    assert high.shape[1] > plot.bars(e, names=["area", "age"]).shape[1]
    written.clear()
    plot.bars(e, names=names, size=(200, 50))  # no room for a second line
    assert any("..." in part for part in written)


def test_long_names_of_a_figure_leave_its_photos_alike():
    pytest.importorskip("matplotlib")
    long = "a name of a class that goes on and on with many more words than any class should have"
    halves = torch.arange(300).expand(200, 300) // 150
    figure = plot.figure(
        one([1.0, -2.0], halves), torch.rand(3, 200, 300), name=long, caption=long, width=85
    )
    figure.savefig(io.BytesIO(), dpi=300)
    widths = []
    for place in (0, 2):  # the photo, and its segments below
        figure.axes[place].apply_aspect()
        widths.append(figure.axes[place].get_position().width)
    assert widths[0] == pytest.approx(widths[1], rel=1e-3)
