import itertools
import math
import os
import sys
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests.pictures import read_png
from torchlime import plot
from torchlime._kinds import IMAGES, Masks
from torchlime._labelmap import Segments
from torchlime.models import Geometry
from torchlime.plot import _canvas, _numbers, charts, sheets
from torchlime.plot._evidence import evidence_of, strongest
from torchlime.plot._text import face_of


@dataclass
class StandIn:
    """The fields of an Explanation that are drawn."""

    coefficients: Tensor
    segments: Tensor
    kind: Masks = IMAGES
    targets: Tensor = field(default_factory=lambda: torch.tensor([[7]]))
    standard_errors: Tensor = field(default_factory=lambda: torch.tensor(math.nan))
    unit: str = "score"
    categories: dict = field(default_factory=dict)
    ids: Tensor | None = None

    def category(self, target):
        return self.categories.get(target, f"class {target}")

    def names(self):
        return None

    def __post_init__(self):
        self.standard_errors = self.standard_errors.expand_as(self.coefficients)
        self.segment_count = self.segments.flatten(1).amax(1) + 1

    def heatmap(self):
        image, target = self.coefficients.shape[:2]
        return torch.stack(
            [
                torch.stack([self.coefficients[b, t][self.segments[b]] for t in range(target)])
                for b in range(image)
            ]
        ).float()


def one(coefficients, segments, **fields):
    return StandIn(torch.tensor([[coefficients]], dtype=torch.float64), segments[None], **fields)


def blocks(rows, columns, side):
    """A label map of square segments, numbered in reading order."""
    ids = torch.arange(rows * columns).view(rows, columns)
    return ids.repeat_interleave(side, 0).repeat_interleave(side, 1)


def near_borders(labels, reach=2):
    """Pixels within ``reach`` of a change of label, found pixel by pixel."""
    height, width = labels.shape
    near = torch.zeros(height, width, dtype=torch.bool)
    for y in range(height):
        for x in range(width):
            window = labels[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            near[y, x] = (window != labels[y, x]).any()
    return near


def shift(picture, reference):
    """Mean change of colour (R, G, B) over the pixels given."""
    return (picture.double() - reference.double()).mean(1)


def colored(picture, color):
    return (picture == torch.tensor(color, dtype=torch.uint8)[:, None, None]).all(0)


GREY = torch.full((3, 40, 60), 128, dtype=torch.uint8)
SIX = blocks(2, 3, 20)


# The overlay


@pytest.mark.parametrize(("value", "hue"), [(0.3, plot.FOR), (-0.3, plot.AGAINST)])
def test_one_segment_shifts_toward_its_hue_and_nothing_else_moves(value, hue):
    explanation = one([0, 0, 0, 0, value, 0], SIX)
    picture = plot.overlay(explanation, GREY, numbers=False)
    segment = SIX == 4
    lines = near_borders(segment)
    inside, outside = segment & ~lines, ~segment & ~lines
    tint = 128 + 0.6 * (torch.tensor(hue) - 128)  # the strongest has all of the opacity
    assert torch.equal(
        picture[:, inside], tint.round().byte()[:, None].expand(3, int(inside.sum()))
    )
    assert torch.equal(picture[:, outside], GREY[:, outside])
    assert (picture[:, lines] != GREY[:, lines]).any()


def test_strength_is_opacity_and_weak_evidence_is_still_visible():
    explanation = one([1.0, 0.5, 1e-9, 0, 0, 0], SIX)
    picture = plot.overlay(explanation, GREY, opacity=1.0, numbers=False)
    inside = ~near_borders(SIX)
    blue = torch.tensor(plot.FOR).double() - 128
    shares = [
        (shift(picture[:, inside & SIX.eq(s)], GREY[:, inside & SIX.eq(s)]) @ blue) / (blue @ blue)
        for s in range(4)
    ]
    assert [round(float(share), 2) for share in shares] == [1.0, 0.6, 0.2, 0.0]


@pytest.mark.parametrize(
    ("sign", "top", "expected"),
    [
        ("both", 5, [2, 0, 1, 5]),  # |−3| > |2| = |−2| > |1|, and zero is never shown
        ("both", 2, [2, 0]),
        ("positive", 5, [0, 5]),
        ("negative", 5, [2, 1]),
        ("negative", 1, [2]),
    ],
)
def test_sign_top_and_ties(sign, top, expected):
    explanation = one([2.0, -2.0, -3.0, 0.0, 0.0, 1.0], SIX)
    picture = plot.overlay(explanation, GREY, top=top, sign=sign, numbers=False)
    inside = ~near_borders(SIX)
    changed = [
        bool((picture[:, inside & SIX.eq(s)] != GREY[:, inside & SIX.eq(s)]).any())
        for s in range(6)
    ]
    assert changed == [s in expected for s in range(6)]
    assert strongest(evidence_of(explanation, None), top, sign) == expected


def test_the_asked_target_is_drawn():
    values = torch.zeros(1, 2, 6, dtype=torch.float64)
    values[0, 0, 1], values[0, 1, 4] = 1.0, -1.0
    explanation = StandIn(values, SIX[None], targets=torch.tensor([[281, 9]]))
    first, second = one(values[0, 0].tolist(), SIX), one(values[0, 1].tolist(), SIX)
    for draw in (plot.overlay, lambda e, i, t=None: plot.heatmap_picture(e, i, t)):
        assert torch.equal(draw(explanation, GREY, 9), draw(second, GREY))
        assert torch.equal(draw(explanation, GREY, 281), draw(first, GREY))
        assert torch.equal(draw(explanation, GREY), draw(first, GREY))
    bars = plot.bars(explanation, 9, name="a class")
    assert torch.equal(bars, plot.bars(second, name="a class"))
    assert not torch.equal(bars, plot.bars(first, name="a class"))
    assert not torch.equal(bars, plot.bars(second, name="another class"))


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_without_evidence_the_photo_is_plain(value):
    photo = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)
    assert torch.equal(plot.overlay(one([value] * 6, SIX), photo), photo)


def test_evidence_beyond_the_count_is_not_drawn():
    explanation = one([0.5, 0.0, 9.0], torch.tensor([[0, 0, 0, 1, 1, 1]]))
    assert strongest(evidence_of(explanation, None), 5, "both") == [0]


def test_colors_are_muted_only_under_evidence():
    red = torch.zeros(3, 40, 60)
    red[0] = 1.0
    picture = plot.overlay(one([1.0, 0, 0, 0, 0, 0], SIX), red, numbers=False)
    far = picture[:, 30, 50].tolist()
    assert far[0] < 255
    assert far[1] == far[2] > 0
    assert far[0] > far[1]


def test_lines_grow_with_the_image():
    for side, width in ((112, 1), (900, 3), (1800, 6)):
        image = torch.zeros(3, side, side)
        halves = blocks(1, 2, side)[:, side // 2 : -side // 2]
        row = plot.boundaries(halves, image)[0, side // 2]
        assert int((row == 255).sum()) == width
        assert row[side // 2 - 1] == 255 or row[side // 2] == 255
        assert int((row == 14).sum()) == 2 * ((width + 1) // 2)  # the dark rim, on both sides


def test_lines_read_on_white_and_on_black():
    halves = blocks(1, 2, 30)
    for shade in (0, 255):
        picture = plot.boundaries(halves, torch.full((3, 30, 60), shade, dtype=torch.uint8))
        row = picture[0, 15, 26:34].int()
        assert row.max() - row.min() > 100


# Numbers


def test_a_number_stands_inside_its_segment_where_the_centroid_does_not():
    bow = torch.zeros(120, 120, dtype=torch.long)
    bow[10:110, 10:110] = 1
    bow[10:80, 35:85] = 0  # a U
    row, column = bow.nonzero().double().mean(0).long().tolist()
    assert bow[row, column] == 0
    explanation = one([0.0, 1.0], bow)
    black = torch.zeros(3, 120, 120)
    plain = plot.overlay(explanation, black, numbers=False)
    numbered = plot.overlay(explanation, black)
    drawn = (plain != numbered).any(0)
    assert drawn.any()
    assert (bow[drawn] == 1).all()
    assert not (drawn & near_borders(bow, 1)).any()


def test_each_rank_stands_in_its_segment():
    explanation = one([1.0, -4.0, 3.0, 0.0, 2.0, 5.0], blocks(2, 3, 40))
    photo = torch.full((3, 80, 120), 90, dtype=torch.uint8)
    plain = plot.overlay(explanation, photo, numbers=False)
    drawn = (plot.overlay(explanation, photo) != plain).any(0)
    cells = drawn.view(2, 40, 3, 40).any(3).any(1).flatten().tolist()
    assert cells == [True, True, True, False, True, True]
    # The segment with rank 1 has the glyph of 1 in its middle: narrower than that of 2.
    widths = [
        int(drawn.view(2, 40, 3, 40)[r, :, c].any(0).sum()) for r, c in ((1, 2), (0, 1), (0, 2))
    ]
    assert widths[0] < widths[1] == widths[2]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 300), st.floats(0.02, 1))
def test_the_inner_point_is_inside(seed, height, width, density):
    inside = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < density
    inside[seed % height, seed % width] = True
    assert inside[_numbers.inner_point(inside)]


def test_the_inner_point_of_a_thin_diagonal_is_on_it():
    inside = torch.eye(400, dtype=torch.bool)
    inside[::4] = False  # off the coarse grid
    y, x = _numbers.inner_point(inside)
    assert y == x
    assert y % 4


def test_the_inner_point_of_a_bar_is_its_middle():
    inside = torch.zeros(50, 90, dtype=torch.bool)
    inside[20:31, 5:86] = True
    assert _numbers.inner_point(inside) == (25, 45)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9))
def test_depth_is_the_distance_to_the_nearest_pixel_outside(seed, height, width):
    inside = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < 0.8
    outside = [
        (y, x)
        for y in range(-1, height + 1)
        for x in range(-1, width + 1)
        if not (0 <= y < height and 0 <= x < width and inside[y, x])
    ]
    depth = _numbers.depth(inside)
    for y in range(height):
        for x in range(width):
            assert float(depth[y, x]) == pytest.approx(
                min(math.dist((y, x), other) for other in outside)
            )


# Images of all kinds


def drawn(image):
    """An image as it is shown without evidence."""
    size = image.shape[-2:]
    return plot.overlay(one([0.0], torch.zeros(size, dtype=torch.long)), image)


def test_photos_of_all_channel_counts():
    photo = torch.randint(0, 256, (3, 4, 5), dtype=torch.uint8)
    assert torch.equal(drawn(photo), photo)
    assert torch.equal(drawn(photo[None]), photo)
    assert torch.equal(drawn(photo.double() / 255), photo)
    assert torch.equal(drawn(photo.float() / 255), photo)
    assert torch.equal(drawn(photo[:1]), photo[:1].expand(3, -1, -1))
    alpha = torch.tensor([0, 255, 255, 0, 255], dtype=torch.uint8).expand(1, 4, 5)
    assert torch.equal(
        drawn(torch.cat([photo, alpha])), torch.where(alpha == 0, photo.new_full((), 255), photo)
    )


def test_other_float_ranges_are_stretched():
    values = torch.tensor([-2.0, 0.0, 2.0])
    assert drawn(values.expand(1, 1, 3))[0, 0].tolist() == [0, 128, 255]
    assert drawn(torch.tensor([0.0, 0.25, 0.5]).expand(1, 1, 3))[0, 0].tolist() == [0, 64, 128]
    assert drawn(torch.full((1, 1, 2), 7.0))[0, 0].tolist() == [128, 128]


def test_non_finite_pixels_are_mid_grey_and_the_rest_as_before():
    photo = torch.rand(3, 4, 5)
    broken = photo.clone()
    broken[0, 1, 2], broken[1, 3, 4], broken[2, 0, 0] = math.nan, math.inf, -math.inf
    expected = drawn(photo)
    for y, x in ((1, 2), (3, 4), (0, 0)):
        expected[:, y, x] = 128
    assert torch.equal(drawn(broken), expected)
    assert (drawn(torch.full((3, 2, 2), math.nan)) == 128).all()


@pytest.mark.parametrize("shape", [(2, 4, 4), (5, 4, 4), (2, 3, 4, 4), (4, 4), (3, 0, 4)])
def test_images_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="channels"):
        plot.overlay(one([1.0], torch.zeros(4, 4, dtype=torch.long)), torch.zeros(shape))


def test_images_of_other_types_are_refused():
    with pytest.raises(TypeError, match="int64"):
        drawn(torch.zeros(3, 2, 2, dtype=torch.long))


def test_the_image_and_the_explanation_are_left_as_they_are():
    for image in (torch.rand(3, 40, 60), torch.rand(1, 40, 60), GREY.clone()):
        explanation = one([1.0, -2.0, 0, 0, 0, 0], SIX)
        before = image.clone(), explanation.coefficients.clone(), explanation.segments.clone()
        plot.overlay(explanation, image)
        plot.boundaries(SIX, image)
        plot.heatmap_picture(explanation, image)
        plot.bars(explanation)
        after = image, explanation.coefficients, explanation.segments
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_segment_that_has_no_pixel_in_a_small_picture_has_no_number():
    labels = torch.zeros(90, 90, dtype=torch.int64)
    labels[1, 1] = 1  # between the pixels of the picture
    picture = plot.overlay(one([1.0, 2.0], labels), torch.rand(3, 30, 30), box=(0, 0, 30, 30))
    assert picture.shape == (3, 30, 30)


def test_results_that_need_gradients_can_be_drawn():
    explanation = one([1.0, -2.0, 0, 0, 0, 0], SIX)
    expected = plot.overlay(explanation, GREY)
    explanation.coefficients.requires_grad_()
    assert torch.equal(plot.overlay(explanation, GREY), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_an_explanation_on_a_gpu_is_drawn_on_the_host():
    explanation = one([1.0, -2.0, 0, 0, 0, 0], SIX)
    on_gpu = StandIn(
        explanation.coefficients.cuda(),
        explanation.segments.cuda(),
        explanation.targets.cuda(),
        explanation.standard_errors.cuda(),
    )
    pairs = (
        (plot.overlay(on_gpu, GREY.cuda()), plot.overlay(explanation, GREY)),
        (plot.heatmap_picture(on_gpu), plot.heatmap_picture(explanation)),
        (plot.bars(on_gpu), plot.bars(explanation)),
        (plot.boundaries(SIX.cuda(), GREY.cuda()), plot.boundaries(SIX, GREY)),
    )
    for picture, expected in pairs:
        assert picture.device.type == "cpu"
        assert torch.equal(picture, expected)


def test_the_callers_defaults_do_not_matter():
    explanation = one([1.0, -2.0, 0, 0, 0, 0], SIX)

    def draw():
        return (
            plot.overlay(explanation, GREY),
            plot.heatmap_picture(explanation),
            plot.bars(explanation),
        )

    expected = draw()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        pictures = draw()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert all(torch.equal(a, b) for a, b in zip(pictures, expected, strict=True))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (3, 3), (12, 12)])
def test_tiny_images(size):
    labels = torch.zeros(size, dtype=torch.long)
    explanation = one([-1.0], labels)
    black = torch.zeros(3, *size)
    picture = plot.overlay(explanation, black, opacity=1.0, numbers=False)
    expected = torch.tensor(plot.AGAINST, dtype=torch.uint8)[:, None, None].expand(3, *size)
    assert torch.equal(picture, expected)  # one segment only: no border anywhere
    assert plot.overlay(explanation, black).shape == (3, *size)
    assert torch.equal(plot.heatmap_picture(explanation), expected)
    assert (plot.boundaries(labels, black) == 0).all()


# Boundaries


def test_boundaries_lie_between_segments_only():
    labels = torch.tensor([[5, 5, 5, 5], [5, 5, 5, 5], [-3, -3, 9, 9], [-3, -3, 9, 9]])
    labels = labels.repeat_interleave(8, 0).repeat_interleave(8, 1)
    photo = torch.randint(1, 200, (3, 32, 32), dtype=torch.uint8)
    picture = plot.boundaries(labels, photo, color=(255, 0, 255))
    line = colored(picture, (255, 0, 255))
    assert line[15].all()
    assert line[16:, 15].all()
    assert int(line.sum()) == 32 + 16
    far = ~near_borders(labels)
    assert torch.equal(picture[:, far], photo[:, far])


def test_boundaries_takes_segments_and_any_width():
    halves = blocks(1, 2, 20)
    segments = Segments(halves[None], torch.tensor([2]), torch.tensor([True]), 2)
    photo = torch.zeros(3, 20, 40)
    for width in (1, 2, 5):
        picture = plot.boundaries(segments, photo, width=width)
        line = colored(picture, (255, 255, 255))[7].nonzero()[:, 0].tolist()
        assert len(line) == width
        assert {19, 20} & set(line)
        assert torch.equal(plot.boundaries(halves, photo, width=width), picture)


# The heat map


def test_heatmap_colors_have_symmetric_limits():
    explanation = one([2.0, -1.0, 0.0, -2.0, 1.0, 0.0], SIX)
    picture = plot.heatmap_picture(explanation)
    strength = (explanation.heatmap()[0, 0] / 2).double()
    for channel in range(3):
        hue = torch.where(strength > 0, plot.FOR[channel], plot.AGAINST[channel])
        literal = 255 + strength.abs() * (hue - 255)
        assert (picture[channel] - literal).abs().max() <= 0.51
    assert picture[:, 0, -1].tolist() == [255, 255, 255]


def test_heatmap_over_a_photo_keeps_its_light_and_its_signs():
    photo = torch.rand(3, 40, 60)
    picture = plot.heatmap_picture(one([1.0, -1.0, 0, 0, 0, 0], SIX), photo).double()
    neutral = picture[:, SIX.eq(2)]
    assert (neutral.amax(0) == neutral.amin(0)).all()  # the photo is grey
    luma = (0.299 * photo[0] + 0.587 * photo[1] + 0.114 * photo[2])[SIX.eq(2)]
    assert torch.corrcoef(torch.stack([luma.double(), neutral[0]]))[0, 1] > 0.999
    assert (picture[2] > picture[0])[SIX.eq(0)].all()
    assert (picture[2] < picture[0])[SIX.eq(1)].all()


# Bars


def bar_runs(picture, color, start=40):
    """(row, left, right) of the middle row of each bar in ``color``."""
    found = colored(picture, color)
    found[:, :start] = False  # the ranks in their discs
    rows = found.any(1).nonzero()[:, 0].tolist()
    runs = [[rows[0]]] if rows else []
    for before, row in itertools.pairwise(rows):
        runs.append([row]) if row > before + 1 else runs[-1].append(row)
    result = []
    for run in runs:
        columns = found[run[1]].nonzero()[:, 0]
        result.append((run[len(run) // 2], int(columns[0]), int(columns[-1]) + 1))
    return result


def test_bars_have_the_lengths_order_and_sides_of_the_coefficients():
    picture = plot.bars(one([1.0, -2.0, 0.0, 4.0, 0, 0], SIX), size=(640, 300))
    assert picture.shape == (3, 300, 640)
    positive, negative = bar_runs(picture, plot.FOR), bar_runs(picture, plot.AGAINST)
    assert len(positive) == 2
    assert len(negative) == 1
    (row_a, left_a, right_a), (row_c, left_c, right_c) = positive
    row_b, left_b, right_b = negative[0]
    assert row_a < row_b < row_c  # 4, −2, 1
    assert left_a == left_c == right_b
    unit = (right_a - left_a) / 4
    assert right_c - left_c == pytest.approx(unit, abs=1.5)
    assert right_b - left_b == pytest.approx(2 * unit, abs=1.5)


def test_error_bars_are_1_96_standard_errors_and_absent_where_undefined():
    errors = torch.tensor([[[1.0, math.nan, 0.5, 0, 0, 0]]], dtype=torch.float64)
    explanation = one([10.0, -8.0, 6.0, 0, 0, 0], SIX, standard_errors=errors)
    picture = plot.bars(explanation, size=(900, 400))
    (row_a, left_a, right_a), (row_c, *_) = bar_runs(picture, plot.FOR, 50)
    row_b = bar_runs(picture, plot.AGAINST, 50)[0][0]
    unit = (right_a - left_a) / 10
    dark = colored(picture, (25, 25, 25))

    def reach(row):
        columns = dark[row - 3 : row + 4].any(0).nonzero()[:, 0]
        return float(columns.max() - columns.min()) / unit if len(columns) else 0.0

    assert reach(row_a) == pytest.approx(2 * 1.96, abs=0.15)
    assert reach(row_b) == 0
    assert reach(row_c) == pytest.approx(2 * 0.98, abs=0.15)


def test_bars_shows_at_most_top():
    explanation = one([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], SIX)
    assert len(bar_runs(plot.bars(explanation, top=4), plot.FOR)) == 4


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (64, 48)])
@pytest.mark.parametrize("scale", [1.0, 0.0, 1e-308, 1e200, math.nan])
def test_bars_of_any_size_and_scale(size, scale):
    explanation = one([scale, -scale, 0.0], torch.tensor([[0, 1, 2]]))
    assert plot.bars(explanation, size=size).shape == (3, size[1], size[0])


def test_ticks_are_round_and_few():
    assert charts.ticks(-1.0, 1.0, 4) == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert charts.ticks(0.0, 0.73, 4) == [0.0, 0.2, 0.4, 0.6000000000000001]
    for span in (1e-7, 0.03, 1.0, 7.7, 1e5):
        assert 2 <= len(charts.ticks(-span / 3, span, 5)) <= 6


# Rows of pictures, files, figures


def test_side_by_side_keeps_the_pictures_apart():
    a = torch.randint(0, 256, (3, 5, 4), dtype=torch.uint8)
    b = torch.randint(0, 256, (3, 5, 2), dtype=torch.uint8)
    row = plot.side_by_side(a, b, gap=3)
    assert row.shape == (3, 5, 9)
    assert torch.equal(row[:, :, :4], a)
    assert torch.equal(row[:, :, 7:], b)
    assert (row[:, :, 4:7] == 255).all()
    assert torch.equal(plot.side_by_side(a, b, gap=0), torch.cat([a, b], 2))
    assert torch.equal(plot.side_by_side(a), a)


def test_side_by_side_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\[5, 6\]"):
        plot.side_by_side(*(torch.zeros(3, h, 2, dtype=torch.uint8) for h in (5, 6)))
    with pytest.raises(ValueError, match="given"):
        plot.side_by_side()
    with pytest.raises(TypeError, match="uint8"):
        plot.side_by_side(torch.zeros(3, 2, 2))


def test_save_png_round_trips(tmp_path):
    picture = torch.randint(0, 256, (3, 7, 9), dtype=torch.uint8)
    path = tmp_path / "picture.png"
    for saved in (picture, 255 - picture, picture.flip(2).transpose(1, 2)):
        plot.save_png(saved, path)
        assert torch.equal(read_png(path), saved)
    assert os.listdir(tmp_path) == ["picture.png"]


def refusing(*_):
    raise PermissionError(13, "Permission denied")


def test_save_png_leaves_nothing_behind_when_it_fails(tmp_path, monkeypatch):
    picture = torch.zeros(3, 2, 2, dtype=torch.uint8)
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("kept")
    before = sorted(os.listdir(tmp_path))
    for path in (tmp_path / "missing" / "a.png", folder, file / "a.png"):
        with pytest.raises(OSError, match="cannot write the file") as caught:
            plot.save_png(picture, path)
        assert str(path) in str(caught.value)
    monkeypatch.setattr(os, "replace", refusing)
    with pytest.raises(PermissionError, match=str(file)):
        plot.save_png(picture, file)
    assert file.read_text() == "kept"
    assert sorted(os.listdir(tmp_path)) == before
    assert os.listdir(folder) == []


def test_save_png_refuses_what_is_no_picture(tmp_path):
    for other in (torch.zeros(3, 2, 2), torch.zeros(2, 2, dtype=torch.uint8)):
        with pytest.raises(TypeError, match="uint8"):
            plot.save_png(other, tmp_path / "a.png")
    assert os.listdir(tmp_path) == []


def test_figure_shows_photo_overlay_segments_and_bars():
    pytest.importorskip("matplotlib")
    errors = torch.tensor([[[0.1, math.nan, 0, 0, 0, 0]]], dtype=torch.float64)
    explanation = one([1.0, -2.0, 0, 0, 0, 0], SIX, standard_errors=errors)
    figure = plot.figure(explanation, GREY, 7)
    *photos, chart = figure.axes
    shown = [torch.from_numpy(axes.images[0].get_array().data).permute(2, 0, 1) for axes in photos]
    assert torch.equal(shown[0], GREY)
    assert torch.equal(shown[1], plot.overlay(explanation, GREY, 7))
    assert torch.equal(shown[2], plot.boundaries(SIX, GREY))
    assert [bar.get_width() for bar in chart.patches] == [-2.0, 1.0]
    (span,) = chart.collections[0].get_segments()  # the other has no finite standard error
    assert span[:, 0].tolist() == pytest.approx([1 - 0.196, 1 + 0.196])
    assert span[:, 1].tolist() == [1, 1]
    assert [label.get_text() for label in chart.get_yticklabels()] == ["1", "2"]


def test_figure_on_the_photo_with_a_caption():
    pytest.importorskip("matplotlib")
    explanation = one([1.0, -2.0, 0, 0, 0, 0], SIX)
    figure = plot.figure(explanation, WIDE, box=BOX, caption="tabby")
    shown = [
        torch.from_numpy(axes.images[0].get_array().data).permute(2, 0, 1)
        for axes in figure.axes[:3]
    ]
    assert torch.equal(shown[0], WIDE)
    assert torch.equal(shown[1], plot.overlay(explanation, WIDE, 7, box=BOX))
    assert torch.equal(shown[2], plot.boundaries(SIX, WIDE, box=BOX))
    assert figure.get_suptitle() == "tabby"


def test_bytes_and_unit_floats_need_no_search_for_their_range(monkeypatch):
    monkeypatch.delattr(_canvas, "_stretched")
    pixels = torch.randint(0, 256, (3, 5, 4), dtype=torch.uint8)
    given = pixels.float() / 255
    assert _canvas.canvas_of(pixels).equal(given)
    canvas = _canvas.canvas_of(given)
    assert canvas.equal(given)
    canvas.zero_()
    assert given.any()  # it was copied


def test_figure_leaves_pyplot_alone():
    pytest.importorskip("matplotlib")
    loaded = "matplotlib.pyplot" in sys.modules
    plot.figure(one([0.0], torch.zeros(2, 2, dtype=torch.long)), torch.zeros(3, 2, 2))
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_figure_without_matplotlib_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'torchlime\[plot\]'"):
        plot.figure(one([1.0] * 6, SIX), GREY)


# What is refused


@pytest.mark.parametrize(
    "draw",
    [plot.overlay, lambda e, i: plot.heatmap_picture(e), lambda e, i: plot.bars(e)],
)
def test_several_images_must_be_indexed(draw):
    explanation = StandIn(torch.ones(2, 1, 6, dtype=torch.float64), SIX.expand(2, -1, -1))
    with pytest.raises(ValueError, match=r"2 images.*explanation\[i\]"):
        draw(explanation, GREY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": 3}, r"3 was not explained.*\[7\]"),
        ({"sign": "up"}, "positive.*negative.*both.*'up'"),
        ({"top": 0}, "top must be at least 1"),
        ({"opacity": 1.5}, "opacity.*1.5"),
        ({"opacity": math.nan}, "opacity"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        plot.overlay(one([1.0] * 6, SIX), GREY, **arguments)


def test_images_of_another_size_are_refused():
    explanation = one([1.0] * 6, SIX)
    other = torch.zeros(3, 41, 60)
    for draw in (
        lambda: plot.overlay(explanation, other),
        lambda: plot.heatmap_picture(explanation, other),
        lambda: plot.boundaries(SIX, other),
    ):
        with pytest.raises(ValueError, match=r"41×60.*40×60"):
            draw()


def test_boundaries_refuses_bad_arguments():
    with pytest.raises(ValueError, match=r"\[2, 40, 60\]"):
        plot.boundaries(SIX.expand(2, -1, -1), GREY)
    with pytest.raises(ValueError, match="width"):
        plot.boundaries(SIX, GREY, width=0)
    with pytest.raises(ValueError, match="color"):
        plot.boundaries(SIX, GREY, color=(300, 0, 0))


# On the whole photo


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12),
    st.floats(-5, 10), st.floats(-5, 10), st.floats(0.5, 15), st.floats(0.5, 15),
)  # fmt: skip
def test_labels_on_a_photo_pixel_by_pixel(rows, columns, height, width, left, top, w, h):
    labels = torch.arange(rows * columns).view(rows, columns)
    placed = plot.on_photo(labels, (height, width), (left, top, left + w, top + h))
    for y in range(height):
        for x in range(width):
            row = math.floor((y + 0.5 - top) * rows / (top + h - top))
            column = math.floor((x + 0.5 - left) * columns / (left + w - left))
            inside = 0 <= row < rows and 0 <= column < columns
            assert placed[y, x] == (labels[row, column] if inside else -1)


def test_labels_on_a_photo_are_those_of_the_pixels_that_the_network_saw():
    """Paint every segment on the photo; what the classifier cuts from it shows that segment."""
    image = Image.new("RGB", (97, 61))
    geometry = Geometry(resize=(32, 32), crop=(24, 24), interpolation="nearest")
    labels = blocks(4, 4, 6)
    placed = plot.on_photo(labels, (61, 97), geometry.crop_box(image.size))
    image.paste(Image.fromarray((10 * (placed + 1)).to(torch.uint8).numpy()))
    seen = (geometry.cut(image)[0] * 25.5).round().long() - 1
    assert (seen != labels)[~near_borders(labels, 1)].sum() == 0
    assert (seen != labels).float().mean() < 0.2


@pytest.mark.parametrize("box", [(3, 3, 3, 9), (5, 0, 1, 9)])
def test_an_empty_box_is_refused(box):
    with pytest.raises(ValueError, match="not empty"):
        plot.on_photo(SIX, (9, 9), box)


WIDE = torch.full((3, 100, 200), 128, dtype=torch.uint8)
BOX = (40, 10, 160, 90)  # SIX at twice its size


def test_an_overlay_on_the_photo_tints_the_segment_and_fades_what_was_not_seen():
    picture = plot.overlay(one([0, 0, 0, 0, 0.5, 0], SIX), WIDE, box=BOX, numbers=False)
    assert picture.shape == WIDE.shape
    tinted = (picture[2].int() - picture[0].int()) > 20
    assert tinted[56:84, 86:114].all()  # segment 4: rows 50…90, columns 80…120
    tinted[48:92, 78:122] = False
    assert not tinted.any()
    assert (picture[:, :8] > 200).all()
    assert (picture[:, :, 165:] > 200).all()
    assert (picture[:, 16:44, 46:154] == 128).all()


@pytest.mark.parametrize("coefficients", [[0] * 6, [0, 0, 0, 0, 0.5, 0]])
def test_everything_on_the_photo_is_framed_and_faded_alike(coefficients):
    explanation = one(coefficients, SIX)
    for picture in (
        plot.overlay(explanation, WIDE, box=BOX),
        plot.heatmap_picture(explanation, WIDE, box=BOX),
        plot.boundaries(SIX, WIDE, box=BOX),
    ):
        assert picture.shape == WIDE.shape
        assert (picture[:, :, :35] > 200).all()
        assert (picture[:, 5:15, 100].amin(), picture[:, 5:15, 100].amax()) != (128, 128)


def test_a_box_that_is_the_whole_photo_changes_nothing():
    explanation = one([0.5, -1, 0, 0.2, 0, 0], SIX)
    for draw in (plot.overlay, plot.heatmap_picture):
        assert draw(explanation, GREY, box=(0, 0, 60, 40)).equal(draw(explanation, GREY))
        assert draw(explanation, GREY, box=(-0.2, 0, 60, 40.1)).equal(draw(explanation, GREY))


def corner(part, page):
    """(row, column) where ``part`` lies on ``page``, pixel for pixel."""
    height, width = part.shape[1:]
    row = page.unfold(2, width, 1) == part[:, 0, None, None]
    for y, x in row.all(3).all(0).nonzero().tolist():
        if page[:, y : y + height, x : x + width].equal(part):
            return y, x
    raise AssertionError("it is not there")


@pytest.mark.parametrize(
    ("size", "right", "below"),
    [  # of the overlay, all evidence and the bars: beside the photo, and under it
        ((300, 240), [True, False, True], [False, True, True]),
        ((700, 300), [False, False, False], [True, True, True]),
        ((300, 600), [True, True, False], [False, False, True]),
    ],
)
def test_a_sheet_shows_photo_overlay_evidence_and_bars(monkeypatch, size, right, below):
    charts_drawn = []
    chart = sheets.chart
    monkeypatch.setattr(
        sheets, "chart", lambda *given: charts_drawn.append(chart(*given)) or charts_drawn[-1]
    )
    explanation = one([0.5, -1, 0, 0.2, 0, 0], SIX)
    width, height = size
    photo = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    box = (30, 20, width - 30, height - 20)
    sheet = plot.sheet(explanation, photo, box=box, caption="class 7")
    parts = [
        photo,
        plot.overlay(explanation, photo, box=box),
        plot.heatmap_picture(explanation, photo, box=box),
        charts_drawn[0],
    ]
    (y, x), *others = [corner(part, sheet) for part in parts]
    assert [other[1] > x for other in others] == right
    assert [other[0] > y for other in others] == below
    assert all(other[1] == x or beside for other, beside in zip(others, right, strict=True))
    assert all(other[0] == y or under for other, under in zip(others, below, strict=True))


@pytest.mark.parametrize(
    ("size", "seen", "max_side", "expected"),
    [
        ((100, 80), 40, None, (100, 80)),  # the photo's own size
        ((100, 80), 80, 50, (50, 40)),  # shrunk as asked
        ((20, 16), 40, None, (60, 48)),  # enlarged until the network's pixels can be seen
        ((1, 1), 40, None, (40, 40)),
        ((2000, 3), 40, None, (2000, 3)),  # but not beyond reason
    ],
)
def test_the_size_of_a_sheet(size, seen, max_side, expected):
    explanation = one([1.0, 0.5], blocks(1, 2, seen // 2).repeat(2, 1))
    width, height = size
    photo = torch.zeros(3, height, width, dtype=torch.uint8)
    resized, box = plot.resized(
        _canvas.canvas_of(photo), (0, 0, width, height), (seen, seen), max_side
    )
    assert tuple(resized.shape[:0:-1]) == expected
    assert box == (0, 0, *expected)
    sheet = plot.sheet(explanation, photo, box=(0, 0, width, height), max_side=max_side)
    assert sheet.shape[1] > expected[1]


@pytest.mark.parametrize(
    ("coefficients", "title"),
    [
        ([0, 0, 0, 0, 0, 0], "no segment has any evidence"),
        ([0, 1, 0, 0, 0, 0], "the strongest segment"),
        ([0, 1, 2, 0, -1, 0], "the 3 strongest segments"),
    ],
)
def test_a_sheet_says_how_many_segments_it_shows(written, coefficients, title):
    plot.sheet(one(coefficients, SIX), GREY)
    assert written[1] == title


@pytest.fixture
def written(monkeypatch):
    """All texts of the sheets that are drawn."""
    texts = []
    paragraph = sheets._paragraph
    monkeypatch.setattr(
        sheets, "_paragraph", lambda text, *rest: texts.append(text) or paragraph(text, *rest)
    )
    return texts


def test_a_sheet_says_what_a_bar_means(written):
    errors = torch.tensor([[[0.1, 0.1, 0, 0, 0, 0]]], dtype=torch.float64)
    sure = one([1.0, -2.0, 0, 0, 0, 0], SIX, standard_errors=errors)
    plot.sheet(sure, WIDE, box=BOX, name="tiger cat", unit="probability")
    assert "Blue speaks for tiger cat, orange against it." in written[-1]
    assert "Hiding a segment lowers the probability by about the length of its" in written[-1]
    assert "95 %" in written[-1]
    assert "did not see" in written[-1]


def test_a_sheet_takes_name_and_unit_from_the_explanation(written):
    known = one([1.0] * 6, SIX, unit="logit", categories={7: "crane, bird"})
    plot.sheet(known, GREY)
    assert "Blue speaks for crane, orange against it." in written[-1]
    assert "lowers the logit by" in written[-1]
    plot.sheet(known, GREY, name="stork", unit="score")
    assert "Blue speaks for stork" in written[-1]
    assert "lowers the score by" in written[-1]


def test_a_sheet_claims_no_intervals_and_no_faded_part_where_there_are_none(written):
    plot.sheet(one([1.0, -2.0, 0, 0, 0, 0], SIX), GREY)  # standard errors are NaN, as of a Lasso
    assert "Blue speaks for class 7" in written[-1]
    assert not any("95 %" in text or "see" in text for text in written)
    plot.sheet(one([0.0] * 6, SIX), GREY, unit="logit")
    assert written[-1] == "No segment changes the logit of class 7."


def test_long_captions_are_broken_into_lines():
    words = [f"word{i}" for i in range(30)]
    explanation = one([1.0] * 6, SIX)
    short = plot.sheet(explanation, GREY, caption="x")
    long = plot.sheet(explanation, GREY, caption=" ".join(words))
    assert long.shape[1] > short.shape[1]
    assert long.shape[2] == short.shape[2]
    assert (long[:, :, -4:] == 255).all()
    assert sorted(" ".join(face_of().lines(" ".join(words), 18, 500, most=9)).split()) == sorted(
        words
    )
