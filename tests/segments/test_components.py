import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.segments import oracles
from torchlime.segments import components
from torchlime.segments.components import connect_labels, connected_components

MAPS = hnp.arrays(
    np.int64,
    hnp.array_shapes(min_dims=3, max_dims=3, max_side=14),
    elements=st.integers(0, 3),
)
ORIENTATIONS = (
    lambda a: a,
    lambda a: a[::-1],
    lambda a: a[:, ::-1],
    lambda a: a.T,
    lambda a: a.T[::-1],
)


def first_pixels(labels):
    """The oracle of the roots: for each pixel the first one of its region, in raster order."""
    regions = oracles.regions(labels).ravel()
    _, first, inverse = np.unique(regions, return_index=True, return_inverse=True)
    return first[inverse]


@given(MAPS)
@settings(deadline=None)
def test_roots_are_the_first_pixels_of_scipys_regions(maps):
    root, converged = connected_components(torch.from_numpy(maps))
    assert converged.all()
    for image, labels in enumerate(maps):
        np.testing.assert_array_equal(root[image], first_pixels(labels))


def adversaries(size):
    random = np.random.default_rng(size)
    yield "spiral", oracles.spiral(size)
    yield "serpentine", oracles.serpentine(size)
    yield "checkerboard", np.indices((size, size)).sum(0) % 2
    yield "constant", np.zeros((size, size), int)
    yield "tree", oracles.tree(size)
    for seed in range(2):
        yield f"maze {seed}", oracles.maze(size, seed)
    for density in (0.4, 0.55, 0.593, 0.65):
        yield f"percolation {density}", (random.random((size, size)) < density).astype(int)
    for labels in (3, 5):
        yield f"{labels} random labels", random.integers(0, labels, (size, size))


@pytest.mark.parametrize("size", [31, 128, 255, 256])
def test_converges_on_adversaries_in_every_orientation(size):
    for name, labels in adversaries(size):
        turned = np.stack([turn(labels) for turn in ORIENTATIONS])
        root, converged = connected_components(torch.from_numpy(turned))
        assert converged.all(), name
        np.testing.assert_array_equal(root[3], first_pixels(turned[3]), err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_large_mazes(seed):
    """512×512: one region of long corridors, where hooks may be lost."""
    labels = oracles.large_maze(512, seed)
    assert oracles.regions(labels)[labels == 1].min() == oracles.regions(labels)[labels == 1].max()
    turned = np.stack([turn(labels) for turn in ORIENTATIONS])
    root, converged = connected_components(torch.from_numpy(turned))
    assert converged.all()
    for image in range(len(turned)):
        np.testing.assert_array_equal(root[image], first_pixels(turned[image]))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_lines(shape):
    labels = np.random.default_rng(0).integers(0, 2, shape)
    root, converged = connected_components(torch.from_numpy(labels)[None])
    assert converged.all()
    np.testing.assert_array_equal(root[0], first_pixels(labels))


@pytest.mark.parametrize("turns", [0, 1, 2, 4])
def test_a_short_budget_splits_but_never_joins(monkeypatch, turns):
    monkeypatch.setattr(components, "TURNS", turns)
    maze = oracles.maze(64, 0)
    root, converged = connected_components(torch.from_numpy(np.stack([maze, 0 * maze])))
    assert not converged[0]
    assert converged[1] == (turns > 1)
    assert oracles.disconnected(root[0].numpy().reshape(64, 64)) == 0
    assert root[0].unique().numel() > oracles.regions(maze).max()

    labels, count, ok = connect_labels(
        torch.from_numpy(maze)[None], torch.zeros(1, 1, 64, 64), num_labels=2, min_size=1
    )
    assert not ok
    assert oracles.disconnected(labels[0].numpy()) == 0
    assert labels.unique().tolist() == list(range(int(count)))


@given(MAPS, st.floats(0, 1), st.integers(0, 2**16), st.sampled_from([4, 129]))
@settings(deadline=None)
def test_repair_is_the_oracles(maps, share, seed, num_labels):
    batch, height, width = maps.shape
    colours = np.random.default_rng(seed).integers(-4, 5, (batch, 2, height, width))
    min_size = share * height * width / 4
    labels, count, ok = connect_labels(
        torch.from_numpy(maps), torch.from_numpy(colours).double(), num_labels, min_size
    )
    assert ok.all()
    for image in range(batch):
        expected = oracles.connect(
            maps[image], colours[image], 4, min_size, components.MERGE_ROUNDS
        )
        np.testing.assert_array_equal(labels[image], expected[0])
        assert count[image] == expected[1]
        assert oracles.disconnected(expected[0]) == 0


@pytest.mark.parametrize("colours", [(0, 2047), (-1023, 1024), range(-1023, 1025)], ids=repr)
def test_few_labels_fit_in_32_bits_at_the_largest_steps(monkeypatch, colours):
    """The last label, 127, and squared distances up to 2047², the largest below 2**22 − 1."""
    random = np.random.default_rng(0)
    labels = torch.from_numpy(np.kron(random.integers(96, 128, (2, 20, 30)), np.ones((2, 2), int)))
    given = torch.from_numpy(random.choice(colours, (2, 1, 40, 60))).double()
    narrow = connect_labels(labels, given, 128, min_size=9)
    monkeypatch.setattr(components, "NARROW", components.WIDE._replace(bits=0))
    wide = connect_labels(labels, given, 128, min_size=9)
    assert all(map(torch.equal, narrow, wide))
    assert narrow[0].unique().numel() > 20


@pytest.mark.parametrize("above", [-1, 1])
def test_means_next_to_a_half_are_rounded_to_their_side(above):
    """The means nearest to a half: k + 1/2 ± 1/(2·size), for any odd size and any k."""
    size = torch.arange(1, components.FLOAT32_PIXELS + 1, 2)
    k = torch.cat([torch.arange(-255, -245), torch.arange(-2, 2), torch.arange(245, 255)])
    sums = ((2 * k[:, None] + 1) * size + above) // 2
    both = torch.stack([sums, size.expand_as(sums)], dim=1)
    expected = (k[:, None] + (above > 0)).expand_as(sums)[:, None].float()
    for dtype in (torch.int32, torch.int64):
        assert components._means(both.to(dtype)).equal(expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_default_dtype_does_not_matter(dtype):
    sums = torch.tensor([[[149_400, 65_535 * 255], [1000, 65_535]]], dtype=torch.int32)
    expected = torch.tensor([[[149.0, 255.0]]])
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        found = components._means(sums)
    finally:
        torch.set_default_dtype(before)
    assert found.dtype is torch.float32
    assert found.equal(expected)


@pytest.mark.parametrize(("rounds", "owner"), [(1, 2), (0, 0)])
def test_regions_merge_by_colour_and_lines_fill_the_rest(monkeypatch, rounds, owner):
    monkeypatch.setattr(components, "MERGE_ROUNDS", rounds)
    labels = torch.zeros(1, 8, 12, dtype=torch.int64)
    labels[:, :, 6:] = 2
    labels[:, 4:] = 1  # the largest region of 1
    expected = labels.clone()
    labels[:, :2, 4:6] = 1  # another, between 0 on its left and 2, with the colour of 2
    expected[:, :2, 4:6] = owner
    fixed, count, _ = connect_labels(labels, (labels == 0)[:, None].double(), 3, 1)
    assert torch.equal(fixed, expected)
    assert count.tolist() == [3]


def test_connected_labels_stay_as_they_are():
    labels = torch.arange(4).view(2, 2).repeat_interleave(8, 0).repeat_interleave(8, 1)[None]
    fixed, count, _ = connect_labels(labels, torch.rand(1, 3, 16, 16), 4, 64)
    assert torch.equal(fixed, labels)
    assert count.tolist() == [4]
