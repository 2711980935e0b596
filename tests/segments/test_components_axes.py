"""Connected parts of series and volumes."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.segments import oracles
from tests.segments.test_components import first_pixels
from torchlime.segments import components
from torchlime.segments.components import connect_labels, connected_components

SHAPES = st.one_of(
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
    hnp.array_shapes(min_dims=4, max_dims=4, max_side=7),
)
MAPS = hnp.arrays(np.int64, SHAPES, elements=st.integers(0, 3))


@given(MAPS)
@settings(deadline=None)
def test_roots_are_the_first_pixels_of_scipys_regions(maps):
    root, converged = connected_components(torch.from_numpy(maps))
    assert converged.all()
    for image, labels in enumerate(maps):
        np.testing.assert_array_equal(root[image], first_pixels(labels))


@given(MAPS, st.floats(0, 1), st.integers(0, 2**16))
@settings(deadline=None)
def test_repair_is_the_oracles(maps, share, seed):
    colours = np.random.default_rng(seed).integers(-4, 5, (len(maps), 2, *maps.shape[1:]))
    min_size = share * maps[0].size / 4
    labels, count, ok = connect_labels(
        torch.from_numpy(maps), torch.from_numpy(colours).double(), 4, min_size
    )
    assert ok.all()
    for image, given_labels in enumerate(maps):
        expected = oracles.connect(
            given_labels, colours[image], 4, min_size, components.MERGE_ROUNDS
        )
        np.testing.assert_array_equal(labels[image], expected[0])
        assert count[image] == expected[1]
        assert oracles.disconnected(expected[0]) == 0


def adversaries():
    random = np.random.default_rng(0)
    for seed in range(2):
        yield f"maze {seed}", oracles.maze(33, seed, axes=3)
    layers = np.stack([oracles.serpentine(33)] * 33)
    layers[1::2] = 0
    layers[1::4, 0, 0] = layers[3::4, -1, -1] = 1
    yield "serpentine", layers
    for density in (0.25, 0.3116, 0.4):
        yield f"percolation {density}", (random.random((40, 40, 40)) < density).astype(int)
    for labels in (3, 5):
        yield f"{labels} random labels", random.integers(0, labels, (40, 40, 40))
    yield "checkerboard", np.indices((24, 24, 24)).sum(0) % 2


@pytest.mark.parametrize(("name", "volume"), list(adversaries()))
def test_converges_on_adversaries_in_every_orientation(name, volume):
    turned = [np.transpose(volume, axes) for axes in itertools.permutations(range(3))]
    turned = np.stack(turned + [view[::-1, :, ::-1] for view in turned])
    root, converged = connected_components(torch.from_numpy(turned))
    assert converged.all(), name
    for image in (0, 7):
        np.testing.assert_array_equal(root[image], first_pixels(turned[image]), err_msg=name)


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_short_budget_splits_but_never_joins(monkeypatch, turns):
    monkeypatch.setattr(components, "TURNS", turns)
    maze = oracles.maze(17, 0, axes=3)
    root, converged = connected_components(torch.from_numpy(maze)[None])
    assert not converged.any()
    assert oracles.disconnected(root[0].numpy().reshape(maze.shape)) == 0
    labels, count, ok = connect_labels(
        torch.from_numpy(maze)[None], torch.zeros(1, 1, *maze.shape), num_labels=2, min_size=1
    )
    assert not ok
    assert oracles.disconnected(labels[0].numpy()) == 0
    assert labels.unique().tolist() == list(range(int(count)))


def test_the_last_row_of_a_plane_does_not_touch_the_first_of_the_next():
    """In raster order they are as far apart as neighbours are."""
    volume = torch.zeros(1, 2, 4, 3, dtype=torch.int64)
    volume[0, 0, 3, 0] = volume[0, 1, 0, 0] = 1
    root, _ = connected_components(volume)
    assert len(root[0][volume[0].flatten() == 1].unique()) == 2
