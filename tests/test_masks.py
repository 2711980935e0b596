import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracles
from torchlime import _row_blocks
from torchlime.masks import (
    Bernoulli,
    BinomialLaw,
    Exhaustive,
    FixedCount,
    GlimeLaw,
    LeaveOneOut,
    LeverageLaw,
    Orthogonal,
    Permutations,
    ShapleyLaw,
    SizeLaw,
    Sizes,
    SlidingWindow,
)
from torchlime.masks._forms import Forms

SAMPLERS = [
    Bernoulli(), Bernoulli(keep=0.8), Orthogonal(), FixedCount(), FixedCount(remove=0.5),
    Sizes(), Sizes((0.25, 0.6, 0.9), paired=False), Permutations(), Permutations(paired=False),
    SizeLaw(), SizeLaw(law=GlimeLaw(), paired=False),
]  # fmt: skip
ENUMERATED = [Exhaustive(), LeaveOneOut(), SlidingWindow((2, 3), (1, 2)), SlidingWindow((6,), (3,), 2)]  # noqa: E501  # fmt: skip


def draw(sampler, counts, width, num_samples, seed=0):
    return sampler(torch.tensor(counts), width, num_samples, seed=seed)


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(1, 40),
    data=st.data(),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_masks_equal_their_literal_definition(width, data, seed):
    count = data.draw(st.integers(1, width))
    num_samples = data.draw(st.integers(2, 300))
    first = data.draw(st.integers(0, 2000))
    drawn = {
        "bernoulli": draw(Bernoulli(0.3), [count], width, num_samples, seed),
        "fixed": draw(FixedCount(0.4), [count], width, num_samples, seed),
        "pairs": draw(Sizes((0.3, 0.5)), [count], width, num_samples, seed),
        "turns": draw(Sizes((0.3, 0.5, 0.8), paired=False), [count], width, num_samples, seed),
        "orthogonal": draw(Orthogonal(), [count], width, num_samples, seed),
        "further": Orthogonal()(torch.tensor([count]), width, num_samples, seed=seed, first=first),
        "walks": draw(Permutations(), [count], width, num_samples, seed),
        "single walks": draw(Permutations(paired=False), [count], width, num_samples, seed),
        "law in pairs": draw(SizeLaw(ShapleyLaw()), [count], width, num_samples, seed),
        "law": draw(SizeLaw(BinomialLaw(0.8), False), [count], width, num_samples, seed),
        "one": draw(LeaveOneOut(), [count], width, num_samples + width),
    }
    shapley = [0.0, *(1 / (k * (count - k)) for k in range(1, count)), 0.0]
    eighty = [math.comb(count, k) * 0.8**k * 0.2 ** (count - k) for k in range(count + 1)]
    literal = {
        "bernoulli": oracles.bernoulli(count, width, num_samples, seed, 0.3),
        "fixed": oracles.fixed_count(count, width, num_samples, seed, 0.4),
        "pairs": oracles.sizes(count, width, num_samples, seed, (0.3, 0.5), True),
        "turns": oracles.sizes(count, width, num_samples, seed, (0.3, 0.5, 0.8), False),
        "orthogonal": oracles.orthogonal(count, width, num_samples, seed),
        "further": oracles.orthogonal(count, width, num_samples, seed, first),
        "walks": oracles.permutations(count, width, num_samples, seed, True),
        "single walks": oracles.permutations(count, width, num_samples, seed, False),
        "law in pairs": oracles.size_law(count, width, num_samples, seed, shapley, True, True),
        "law": oracles.size_law(count, width, num_samples, seed, eighty, False, False),
        "one": oracles.leave_one_out(count, width),
    }
    for name, masks in drawn.items():
        np.testing.assert_array_equal(masks[0].numpy(), literal[name], err_msg=name)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_a_mask_depends_on_seed_sample_segment_and_bound_alone(sampler):
    generator_state = torch.get_rng_state()
    together = draw(sampler, [10, 60, 33], 60, 256, seed=3)
    assert together.shape == (3, 256, 60)
    assert together.dtype == torch.bool
    for i, count in enumerate([10, 60, 33]):
        alone = draw(sampler, [count], 60, 256, seed=3)
        assert torch.equal(together[i], alone[0])
        assert getattr(sampler, "beside", False) or together[i, 0, :count].all()
        assert not together[i, :, count:].any()
    own_seeds = draw(sampler, [10, 60, 33], 60, 256, seed=torch.tensor([3, 3, 4]))
    assert torch.equal(own_seeds[:2], together[:2])
    assert not torch.equal(own_seeds[2], together[2])
    assert torch.equal(torch.get_rng_state(), generator_state)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), axes=st.integers(1, 3))
def test_windows_equal_their_literal_definition(data, axes):
    grid = tuple(data.draw(st.integers(1, 6)) for _ in range(axes))
    window = tuple(data.draw(st.integers(1, cells)) for cells in grid)
    strides = tuple(data.draw(st.integers(1, size)) for size in window)
    if len(set(strides)) == 1 and data.draw(st.booleans()):
        sampler = SlidingWindow(grid, window, strides[0])
    else:
        sampler = SlidingWindow(grid, window, strides)
    literal = oracles.sliding_window(grid, window, strides)
    cells = literal.shape[1]
    masks = draw(sampler, [cells], cells, len(literal) + data.draw(st.integers(0, 2)) + 1)
    np.testing.assert_array_equal(masks[0].numpy(), literal)
    assert not literal.all(axis=0).any()  # each cell is hidden somewhere
    hidden = (~masks[0, 1:]).view(*sampler.places, *grid)
    for axis in range(axes):  # what the attributions of occlusion are made of
        others = [d for d in range(2 * axes) if d not in (axis, axes + axis)]
        covers = hidden.any(dim=others) if others else hidden
        first, last = sampler.covering(axis, masks.device)
        place = torch.arange(sampler.places[axis])[:, None]
        assert torch.equal((place >= first) & (place <= last), covers)


@pytest.mark.parametrize("sampler", [Bernoulli(), Bernoulli(0.8), FixedCount(), Sizes()], ids=repr)
def test_a_longer_draw_begins_with_the_shorter(sampler):
    assert torch.equal(draw(sampler, [20], 20, 500)[:, :100], draw(sampler, [20], 20, 100))


def test_bernoulli_keeps_at_its_rate():
    masks = draw(Bernoulli(keep=0.8), [100], 100, 4000)[:, 1:]
    rate = masks.double().mean().item()
    assert abs(rate - 0.8) < 4 * (0.16 / masks.numel()) ** 0.5
    columns = np.corrcoef(masks[0].numpy().T) - np.eye(100)
    assert np.abs(columns).max() < 5 / 4000**0.5


def test_neighbouring_seeds_share_nothing():
    a, b = (draw(Bernoulli(), [50], 50, 1000, seed=s)[0, 1:].numpy() for s in (0, 1))
    assert abs((a == b).mean() - 0.5) < 0.02
    assert not (a[:, None, :] == b[None, :50]).all(-1).any()  # no shifted rows either


def words(width, letters):
    """Sets of so many columns: all of them, or 400 at random."""
    if math.comb(width, letters) < 5000:
        return torch.tensor(list(itertools.combinations(range(width), letters)))
    generator = torch.Generator().manual_seed(letters)
    return torch.stack([torch.randperm(width, generator=generator)[:letters] for _ in range(400)])


def strength(masks):
    """The largest k up to 5 for which any k columns are balanced."""
    signs = masks.float() * 2 - 1
    for letters in range(1, min(5, masks.shape[1]) + 1):
        products = torch.ones(len(masks), len(chosen := words(masks.shape[1], letters)))
        for column in chosen.T:
            products *= signs[:, column]
        if products.sum(0).any():
            return letters - 1
    return 5


@pytest.mark.parametrize("width", [2, 3, 5, 8, 16, 17, 33, 60, 256, 257])
def test_orthogonal_blocks_have_strength_three(width):
    size = Orthogonal().block(width)
    masks = draw(Orthogonal(), [width], width, 3 * size, seed=5)[0]
    for block in masks.split(size):
        assert strength(block) >= 3 if width < 256 else strength(block[:, :60]) == 3


@pytest.mark.parametrize(
    ("width", "rows", "last"), [(8, 128, 2), (16, 256, 2), (32, 2048, 1), (64, 4096, 0)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_orthogonal_cycles_have_strength_five(width, rows, last, seed):
    sampler = Orthogonal()
    assert sampler.cycle(width) == rows
    for cycle in range(last + 1):
        masks = sampler(torch.tensor([width]), width, rows, seed=seed, first=cycle * rows)[0]
        assert strength(masks) == 5
        assert strength(masks[:-2]) < 3
        if width == 16:
            assert len(masks.unique(dim=0)) == rows


def test_orthogonal_cycles_of_many_columns_have_strength_five():
    for width, rows in ((100, 32768), (200, 65536)):
        assert Orthogonal().cycle(width) == rows
        masks = draw(Orthogonal(), [width], width, rows)[0][:, :12]
        assert strength(masks) == 5
    assert Orthogonal().cycle(257) == Orthogonal().block(257) == 1024


@pytest.mark.parametrize("order", range(3, 9))
def test_forms_differ_by_the_largest_rank(order):
    forms = Forms(order)
    places, number = torch.arange(1 << order), torch.arange(forms.number)[:, None]
    codes, values = forms.columns(places, number)
    assert codes.sort().values.equal(places)
    tables = torch.zeros_like(values)
    tables[:, codes] = values & 1  # [L, 2^m], by the point
    differing = tables[:1] ^ tables[1:] if order > 6 else tables[:, None] ^ tables
    points = torch.arange(1 << order)
    signs = 1.0 - 2 * (points[:, None] & points).apply_(lambda v: v.bit_count() % 2).float()
    spectrum = ((1.0 - 2 * differing.flatten(0, -2).float()) @ signs).abs().amax(1)
    bent = 2.0 ** ((order + 1) // 2)  # of a form of rank m, or m − 1
    assert set(spectrum.tolist()) <= {bent, 2.0**order}
    assert (spectrum == 2.0**order).sum() == (0 if order > 6 else forms.number)


def test_orthogonal_rows_stand_in_complement_pairs_in_random_order():
    masks = draw(Orthogonal(), [30], 30, 512, seed=1)[0]
    assert not masks.all(1).any()  # none is forced
    assert (masks[0::2] ^ masks[1::2]).all()
    blocks = masks[0::2].split(32)
    assert not torch.equal(blocks[0], blocks[1])
    steps = [block ^ block[:1] for block in blocks]  # without what a form flips
    assert not any(torch.equal(steps[0], step) for step in steps[1:])


def test_orthogonal_rows_are_uniform():
    seeds = torch.arange(4000)
    for num_samples in (3, 40):
        masks = Orthogonal()(torch.full((4000,), 5), 5, num_samples, seed=seeds)
        share = masks.double().mean(0)
        assert (share - 0.5).abs().max() < 4.5 * (0.25 / 4000) ** 0.5
        both = (masks[:, :, 0] & masks[:, :, 3]).double().mean(0)
        assert (both - 0.25).abs().max() < 4.5 * (0.1875 / 4000) ** 0.5


@pytest.mark.parametrize("seed", range(3))
def test_orthogonal_has_full_rank_from_as_many_rows_as_columns_on(seed):
    for width in range(2, 201, 3):
        block = Orthogonal().block(width)
        for num_samples in (block // 2, block, block + 7, 2 * block):
            masks = draw(Orthogonal(), [width], width, num_samples, seed=seed)[0]
            if num_samples <= width:
                continue
            design = np.hstack([np.ones((num_samples, 1)), masks.numpy()])
            gram = design.T @ design
            assert np.linalg.eigvalsh(gram)[0] > 1e-3, (width, num_samples)


@pytest.mark.filterwarnings("error")
def test_orthogonal_below_a_block_is_a_part_of_an_unfolded_design():
    masks = draw(Orthogonal(), [50], 50, 64, seed=2)[0]
    signs = masks.double() * 2 - 1
    assert torch.equal(signs.T @ signs, 64 * torch.eye(50, dtype=torch.float64))
    assert not (masks[0::2] ^ masks[1::2]).all(1).any()
    assert len(draw(Orthogonal(), [50], 50, 95, seed=2)[0].unique(dim=0)) == 95
    masks = draw(Orthogonal(), [50], 50, 96, seed=2)[0]
    assert (masks[0::2] ^ masks[1::2]).all()


def test_the_factor_of_variances_falls_to_the_end_of_a_cycle():
    sampler = Orthogonal()
    factors = [sampler.variance_factor(16, rows) for rows in (8, 32, 128, 192, 256)]
    assert factors[:2] == [1.0, 1.0]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == sampler.variance_factor(16, 512) == pytest.approx(0.3)
    assert 0.3 < sampler.variance_factor(16, 300) < 1
    assert sampler.variance_factor(300, 10_000) == 1.0


@pytest.mark.parametrize(("count", "hidden"), [(1, 1), (2, 1), (7, 1), (8, 2), (12, 2), (13, 3)])
def test_fixed_count_rounds_half_up_and_hides_at_least_one(count, hidden):
    masks = draw(FixedCount(remove=0.2), [count], 13, 50)[0]
    assert (masks[1:].sum(1) == count - hidden).all()
    assert masks[0].sum() == count


def test_fixed_count_is_uniform():
    masks = draw(FixedCount(remove=0.2), [10], 10, 20001)[0, 1:]
    hidden = (~masks).double().mean(0)
    assert (hidden - 0.2).abs().max() < 4 * (0.16 / 20000) ** 0.5


def test_exhaustive_enumerates_each_mask_once():
    masks = draw(Exhaustive(), [6, 6], 6, 100)
    assert masks.shape == (2, 64, 6)
    assert masks[0, 0].all()
    assert len(masks[0].unique(dim=0)) == 64
    assert {tuple(r) for r in masks[0].tolist()} == {tuple(r) for r in oracles.all_masks(6)}


def test_exhaustive_refuses_what_it_cannot_enumerate():
    with pytest.raises(ValueError, match=r"num_samples >= 2\*\*10, got 1023; pass segments=.*Grid"):
        draw(Exhaustive(), [10], 10, 1023)
    assert draw(Exhaustive(), [10], 10, 1024).shape[1] == 1024
    with pytest.raises(ValueError, match="exactly 5 segments, got one with 4; pass segments="):
        draw(Exhaustive(), [5, 4], 5, 64)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bernoulli(keep=0.0), "keep must lie strictly between 0 and 1, got 0.0"),
        (lambda: Bernoulli(keep=1), "keep must lie"),
        (lambda: FixedCount(remove=1.5), "remove must lie strictly between 0 and 1, got 1.5"),
        (lambda: FixedCount(remove=float("nan")), "remove must lie"),
        (lambda: Sizes((0.5, 1.0)), "each of shares must lie strictly between 0 and 1, got 1.0"),
        (lambda: SlidingWindow((3,), (4,)), r"window \(4,\) must lie within the grid \(3,\)"),
        (lambda: SlidingWindow((3,), (1,), 2), r"stride 2 must be at most the window \(1,\)"),
        (lambda: SlidingWindow((3, 3), (1,)), "must have as many axes"),
        (lambda: SlidingWindow((3,), (1,), 0), "must be at least 1, got 0"),
        (lambda: draw(SlidingWindow((3,), (1,)), [4], 4, 9), "has 3 cells, .* up to 4 segments"),
        (lambda: draw(Bernoulli(), [3], 3, 1), "num_samples must be at least 2, got 1"),
        (
            lambda: draw(Bernoulli(), [3], 3, 9, torch.tensor([1, 2])),
            r"shape \[1\], got torch.int64",
        ),
        (lambda: draw(Bernoulli(), [3], 3, 9, torch.tensor([1.0])), "got torch.float32"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(TypeError, match="seed must be an int or an int64 tensor"):
        draw(Bernoulli(), [3], 3, 9, seed=1.5)


@pytest.mark.parametrize("sampler", [*SAMPLERS, *ENUMERATED], ids=repr)
def test_samplers_pickle_compare_and_print(sampler):
    assert pickle.loads(pickle.dumps(sampler)) == sampler
    assert eval(repr(sampler)) == sampler


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize("seed", [3, torch.tensor([3, 4])], ids=["shared", "own"])
def test_blocks_change_nothing(sampler, seed, monkeypatch):
    whole = draw(sampler, [20, 7], 20, 500, seed)
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 100)
    assert torch.equal(draw(sampler, [20, 7], 20, 500, seed), whole)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sampler", [*SAMPLERS, *ENUMERATED], ids=repr)
def test_samplers_compile(sampler):
    count = torch.tensor([6, 6])
    compiled = torch.compile(sampler, fullgraph=True, backend="aot_eager")
    for num_samples in (64, 200):
        expected = sampler(count, 6, num_samples, seed=7)
        assert torch.equal(compiled(count, 6, num_samples, seed=7), expected)


@pytest.mark.parametrize(
    "sampler",
    [Bernoulli(), Bernoulli(0.8), FixedCount(0.3), Orthogonal(), Sizes(), Permutations(),
     SizeLaw(), SizeLaw(LeverageLaw(), paired=False), SizeLaw(GlimeLaw(), paired=False)],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("seed", [7, torch.tensor([1, -3])])
def test_few_samples_are_the_beginning_of_many(sampler, seed, monkeypatch):
    count = torch.tensor([9, 6])
    many = sampler(count, 9, 512, seed=seed)
    assert torch.equal(sampler(count, 9, 64, seed=seed), many[:, :64])
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 100)
    rounds = [sampler(count, 9, size, seed=seed, first=first) for first, size in
              ((0, 64), (64, 1), (65, 47), (112, 400))]  # fmt: skip
    assert torch.equal(torch.cat(rounds, 1), many)
    with pytest.raises(ValueError, match="first must be at least 0, got -1"):
        sampler(count, 9, 64, seed=seed, first=-1)


@pytest.mark.parametrize("sampler", ENUMERATED, ids=repr)
def test_designs_of_one_round_have_no_further_rows(sampler):
    with pytest.raises(
        ValueError,
        match="cannot go on from row first=64; Bernoulli, FixedCount, Orthogonal, Permutations",
    ):
        sampler(torch.tensor([6]), 6, 16, seed=0, first=64)


@pytest.mark.parametrize("sampler", ENUMERATED[1:], ids=repr)
def test_parts_of_an_enumerated_design(sampler, monkeypatch):
    count = torch.tensor([6, 4])
    whole = sampler(count, 6, 100, seed=0)
    monkeypatch.setattr(_row_blocks, "ELEMENTS_ON_CPU", 10)
    assert torch.equal(sampler(count, 6, 100, seed=9), whole)
    parts = [sampler(count, 6, 2, seed=0, first=first) for first in range(1, whole.shape[1], 2)]
    assert torch.equal(torch.cat([whole[:, :1], *parts], dim=1), whole)
    with pytest.raises(ValueError, match=f"needs num_samples >= {whole.shape[1]}, got 2"):
        sampler(count, 6, 2, seed=0)


def test_walks_differ_in_one_segment_a_row_and_pairs_are_reversed():
    for paired in (True, False):
        masks = draw(Permutations(paired=paired), [5, 3], 5, 1 + 4 * 5, seed=2)
        changes = masks[:, 1:] ^ masks[:, :-1]
        assert (changes[0].sum(1) == 1).all()
        assert changes.sum((1, 2)).tolist() == [20, 12]
        orders = changes[0].view(4, 5, 5)
        same = [torch.equal(orders[0], orders[1]), torch.equal(orders[2], orders[3])]
        assert same == [paired, paired]
        assert not torch.equal(orders[0], orders[2])


def test_ranks_are_the_places_in_which_a_walk_shows():
    sampler, count = Permutations(), torch.tensor([5])
    ranks = sampler.ranks(count, 5, 4, seed=3)[0]
    walks = sampler(count, 5, 21, seed=3)[0]
    for walk in range(4):
        rows = walks[5 * walk : 5 * walk + 6]
        rows = rows if walk % 2 else rows.flip(0)
        assert torch.equal(rows, ranks[walk] < torch.arange(6)[:, None])


def test_permutations_are_uniform():
    ranks = Permutations(paired=False).ranks(torch.tensor([4]), 4, 12000, seed=0)[0]
    codes = (ranks * 4 ** torch.arange(4)).sum(1)
    counts = codes.unique(return_counts=True)[1]
    assert len(counts) == 24
    assert (counts - 500).abs().max() < 5 * 500**0.5


@pytest.mark.parametrize("sampler", [Sizes(), Sizes((0.01, 0.99, 0.5), paired=False)], ids=repr)
@pytest.mark.parametrize("count", [1, 2, 3, 13, 196])
@pytest.mark.parametrize("first", [0, 1, 6])
def test_the_host_knows_how_many_segments_a_row_keeps(sampler, count, first):
    masks = sampler(torch.tensor([count]), count, 50, seed=3, first=first)[0]
    kept = masks.sum(1).tolist()
    assert sampler.kept(count, 50, first) == tuple(kept)
    assert min(kept) >= 1
    assert count == 1 or max(kept[first == 0 :]) < count


def test_pairs_of_sizes_are_complements_and_choose_uniformly():
    masks = draw(Sizes((0.2,)), [10], 10, 20001)[0, 1:]
    assert (masks[0::2] ^ masks[1::2]).all()
    shown = masks[1::2].double().mean(0).numpy()
    assert np.abs(shown - 0.2).max() < 5 * (0.2 * 0.8 / 10000) ** 0.5
