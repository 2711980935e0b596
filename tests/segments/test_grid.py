import itertools
import math
import pickle

import pytest
import torch

from torchlime.segments import Grid


@pytest.mark.parametrize(
    ("size", "grid"), [((7, 5), (3, 2)), ((224, 224), (7, 7)), ((1, 9), (1, 9)), ((5, 5), (1, 1))]
)
def test_rectangles(size, grid):
    segments = Grid(*grid)(torch.zeros(2, 3, *size))
    assert segments.bound == grid[0] * grid[1]
    assert segments.count.tolist() == [segments.bound] * 2
    assert segments.ok.all()
    for i in range(grid[0]):
        rows = slice(i * size[0] // grid[0], (i + 1) * size[0] // grid[0])
        for j in range(grid[1]):
            columns = slice(j * size[1] // grid[1], (j + 1) * size[1] // grid[1])
            assert (segments.labels[:, rows, columns] == i * grid[1] + j).all()


@pytest.mark.parametrize(("size", "grid"), [((9,), (4,)), ((5, 4, 7), (2, 4, 3))])
def test_series_and_volumes(size, grid):
    segments = Grid(*grid)(torch.zeros(2, 3, *size))
    assert segments.bound == math.prod(grid)
    for number, box in enumerate(itertools.product(*map(range, grid))):
        sides = zip(box, size, grid, strict=True)
        place = tuple(slice(i * n // k, (i + 1) * n // k) for i, n, k in sides)
        assert (segments.labels[(slice(None), *place)] == number).all()
    assert segments.labels.shape == (2, *size)
    assert eval(repr(Grid(*grid))) == Grid(*grid)


def test_pickles_compares_prints_and_compiles():
    assert pickle.loads(pickle.dumps(Grid(2, 3))) == eval(repr(Grid(2, 3)))
    images = torch.zeros(1, 1, 6, 6)
    compiled = torch.compile(Grid(2, 3), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(images).labels, Grid(2, 3)(images).labels)


def test_bad_arguments():
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        Grid(0, 3)
    with pytest.raises(TypeError, match="cols must be an int, got float"):
        Grid(3, 2.0)
    with pytest.raises(ValueError, match=r"Grid\(3, 2\) does not fit images of 2×9 pixels"):
        Grid(3, 2)(torch.zeros(1, 1, 2, 9))
    with pytest.raises(ValueError, match=r"2 axes behind .* got \[1, 1, 9\]; .*: Grid\(4\)"):
        Grid(3, 2)(torch.zeros(1, 1, 9))
    with pytest.raises(ValueError, match=r"Grid needs a number for each axis"):
        Grid()
    with pytest.raises(TypeError, match="rows= and cols=, or one number for each axis"):
        Grid(3, rows=2)
