"""Vision transformers explained by their tokens."""

import dataclasses
import functools
import inspect
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.models import VisionTransformer

from tests.test_fake_cuda import CAUGHT, RefuseWaiting
from tests.vits import CLASSES, FAMILIES, PATCH, PATCHES, SIDE, SIZE, eva, timm_vit, torchvision_vit
from torchlime import Explanation, PatchLime, explain_patches, metrics, patches
from torchlime._undisturbed import undisturbed
from torchlime.black_box import BlackBox, Forward
from torchlime.features import Tokens
from torchlime.features._vits import vit_of
from torchlime.features.tokens import as_groups, pooled
from torchlime.fills import Constant
from torchlime.local import local_fit
from torchlime.masks import Bernoulli, Exhaustive, Orthogonal, Sizes
from torchlime.patches import _kept_by
from torchlime.rounds import Once
from torchlime.segments import Grid, Slic
from torchlime.surrogates import LeastSquares
from torchlime.weights import Uniform


def images(batch=2, dtype=torch.float64, size=SIZE):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, size, size, generator=generator, dtype=dtype)


def some_masks(number=4):
    """Masks [N,P] of several lengths; the first keeps all."""
    generator = torch.Generator().manual_seed(2)
    masks = (
        torch.rand(number, PATCHES, generator=generator) < torch.linspace(0.2, 0.8, number)[:, None]
    )
    masks[:, 0] = True
    masks[0] = True
    return masks


@pytest.mark.parametrize("name", FAMILIES)
def test_dropped_tokens_are_those_that_no_attention_sees(name):
    family = FAMILIES[name]
    model, x, masks = family.model(), images(), some_masks()
    found = PatchLime().scores(model, x, masks, "all")
    for b in range(len(x)):
        for row, mask in enumerate(masks):
            expected = family.reference(model, x[b : b + 1], mask.nonzero()[:, 0])
            assert (found[b, row] - expected[0]).abs().max() <= 1e-10
    with torch.no_grad():
        outputs = model(x)
    assert (found[:, 0] - getattr(outputs, "logits", outputs)).abs().max() <= 1e-10
    assert ((found[:, 1:] - found[:, :1]).abs().amax(2) > 1e-3).all()  # it is no vacuous test


def model_of(name="timm, class token", dtype=torch.float64):
    return FAMILIES[name].model(dtype)


def count_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class Recorded(torch.nn.Module):
    """A network that notes how many tokens of how many rows its first block gets."""

    def __init__(self, network, block):
        super().__init__()
        self.network = network
        self.seen = []
        block.register_forward_pre_hook(lambda _, args: self.seen.append(tuple(args[0].shape[:2])))

    def forward(self, images):
        return self.network(images)


def test_rows_cost_what_they_keep_in_chunks_of_one_shape():
    network = model_of()
    model = Recorded(network, network.blocks[0])
    e = PatchLime(num_samples=26, chunk_size=4).explain(model, images(2), 0, keep_samples=True)
    # Two whole images; of 25 samples 7 rows hide a third, 6 keep it, 12 keep a half; each twice.
    expected = [(2, 17)] + [(4, 12)] * 4 + [(4, 9)] * 6 + [(4, 6)] * 3
    assert model.seen == expected
    assert e.masks.sum(2)[0].tolist() == list(Sizes().kept(PATCHES, 26))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sampler": Bernoulli(0.6)},
        {"segmenter": Slic(6)},
        {"segmenter": Grid(2, 2), "num_samples": 60},
        {"segmenter": Grid(3, 2)},
    ],
    ids=repr,
)
def test_a_batch_is_its_images_one_by_one_in_any_chunks(settings):
    model, x = model_of("timm, average"), images(3)
    explainer = PatchLime(**({"num_samples": 80} | settings))
    seeds = torch.tensor([4, 5, 6])
    together = explainer.explain(model, x, top=2, seed=seeds, keep_samples=True).check()
    for b in range(3):
        for size in (1, 7, 100):
            other = dataclasses.replace(explainer, chunk_size=size)
            alone = other.explain(model, x[b : b + 1], top=2, seed=seeds[b : b + 1])
            assert torch.equal(alone.targets, together.targets[b : b + 1])
            assert torch.equal(alone.segments, together.segments[b : b + 1])
            for name in ("coefficients", "scores", "fidelity"):
                ours, theirs = getattr(alone, name), getattr(together, name)[b : b + 1]
                assert ours.allclose(theirs, rtol=0, atol=1e-9), name
    for b in range(3):  # the scores stand in the order of the masks
        rows, targets = together.masks[b], together.targets[b : b + 1]
        expected = explainer.scores(model, x[b : b + 1], rows, targets)
        assert together.sample_scores[b].allclose(expected[0], rtol=0, atol=1e-12)


class Planted(torch.nn.Module):
    """A transformer whose class 0 is how much red the patches that it gets hold on average."""

    def __init__(self):
        super().__init__()
        self.vit = torchvision_vit().double().eval()
        self.embedded = []
        self.vit.encoder.layers = torch.nn.Identity()
        self.vit.encoder.ln = torch.nn.Identity()
        with torch.no_grad():
            self.vit.conv_proj.weight.zero_()[0, 0] = 1 / PATCH**2
            self.vit.encoder.pos_embedding.zero_()
        self.vit.encoder.register_forward_hook(lambda _, args, tokens: self._pool(tokens))

    def _pool(self, tokens):
        self.embedded.append(tokens.shape[0])
        return tokens[:, 1:].sum(1, keepdim=True)

    def forward(self, images):
        pooled = self.vit._process_input(images)
        tokens = torch.cat([self.vit.class_token.expand(len(images), -1, -1), pooled], 1)
        return self.vit.encoder(tokens)[:, 0, :CLASSES]


def test_a_planted_patch_is_found_exactly():
    x = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.float64)
    x[0, 0, 6:12, 18:24] = 1.0  # patch 7
    x[1, 0, 12:18, :6] = 2.0  # patch 8
    e = explain_patches(Planted(), x, 0, num_samples=100, surrogate=LeastSquares()).check()
    expected = torch.zeros(2, 1, PATCHES, dtype=torch.float64)
    expected[0, 0, 7], expected[1, 0, 8] = 1.0, 2.0
    assert e.coefficients.allclose(expected, rtol=0, atol=1e-9)
    assert torch.equal(e.heatmap()[:, 0] > 0.5, x[:, 0] > 0.5)
    assert torch.equal(e.mask(1)[:, 0], x[:, 0] > 0.5)
    exact = explain_patches(
        Planted(), x, 0, segmenter=Grid(2, 2), sampler=Exhaustive(), num_samples=16,
        surrogate=LeastSquares(),
    )  # fmt: skip
    assert exact.coefficients[:, 0].round(decimals=9).tolist() == [[0, 1, 0, 0], [0, 0, 2, 0]]


def test_groups_of_patches_follow_colours_and_the_callers_map():
    x = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.float64)
    x[..., SIZE // 2 :] = 1.0
    model = Planted()
    e = explain_patches(model, x, 0, segmenter=Slic(2, blur=False), surrogate=LeastSquares())
    halves = torch.zeros(SIZE, SIZE, dtype=torch.int64)
    halves[:, SIZE // 2 :] = 1
    assert torch.equal(e.segments[0], halves)
    assert e.coefficients[0, 0].tolist() == pytest.approx([0, 8], abs=1e-9)
    own = torch.full((SIDE, SIDE), 40)
    own[0] = -3
    for given in (own, own.numpy(), own[None]):
        e = explain_patches(model, x, 0, segments=given, num_samples=20)
        assert e.segments[0, :PATCH].unique().tolist() == [0]
        assert e.segments[0, PATCH:].unique().tolist() == [1]
    with pytest.raises(ValueError, match=r"label the 4×4 patches .*\[B,4,4\], got \[24, 24\]"):
        explain_patches(model, x, 0, segments=torch.zeros(SIZE, SIZE, dtype=torch.int64))


@pytest.mark.parametrize(
    ("name", "at", "prefix"),
    [
        ("torchvision", "encoder.layers.encoder_layer_0", 1),
        ("timm, registers (DINOv2)", "blocks.0", 5),
        ("ViT", "vit.layers.0", 1),
        ("SigLIP", "network.encoder.layers.0", 0),
    ],
)
def test_a_named_block_is_another_way_in(name, at, prefix):
    model, x, masks = model_of(name), images(), some_masks()
    known = PatchLime().scores(model, x, masks, "all")
    assert PatchLime(at=at, prefix=prefix).scores(model, x, masks, "all").equal(known)
    with pytest.raises(ValueError, match=r"\d+ patches are no grid of squares .* is prefix="):
        PatchLime(at=at, prefix=prefix + 1).scores(model, x, masks, "all")


class Around(torch.nn.Module):
    """A network behind a change of the image, as pipelines have it."""

    def __init__(self, network, change):
        super().__init__()
        self.network = network
        self.change = change

    def forward(self, images):
        return self.network(self.change(images))


def test_the_map_has_the_size_of_the_image_whatever_the_network_gets():
    network, masks = model_of(), some_masks()
    bigger = Around(network, lambda x: torch.nn.functional.avg_pool2d(x, 2))
    e = PatchLime(num_samples=50).explain(bigger, images(size=48))
    assert torch.equal(
        e.segments[0, ::2, ::2], torch.arange(SIZE) // 6 + SIDE * (torch.arange(SIZE) // 6)[:, None]
    )
    twice = images().repeat_interleave(2, 2).repeat_interleave(2, 3)
    ours, theirs = (
        PatchLime().scores(m, x, masks, "all") for m, x in ((bigger, twice), (network, images()))
    )
    assert ours.allclose(theirs, rtol=0, atol=1e-12)
    free = model_of("timm, other sizes")
    padded = timm_vit(dynamic_img_size=True, dynamic_img_pad=True).double()
    for model, side in ((free, 36), (padded, 22)):  # 6×6 patches; 3 and a part, padded
        e = PatchLime(num_samples=50).explain(model, images(1, size=side))
        assert e.segments[0, 0].tolist() == [column // PATCH for column in range(side)]


class HidesAll:
    """Orthogonal, whose row 0 hides every patch; the image is beside it."""

    beside = True

    def __call__(self, count, bound, num_samples, *, seed):
        masks = Orthogonal()(count, bound, num_samples, seed=seed)
        return masks ^ masks[:, :1]

    def kept(self, count, num_samples, first=0):
        return (
            [count // 2] * num_samples if first else [0, count] + [count // 2] * (num_samples - 2)
        )


def test_numbers_known_before_count_the_image_beside_the_design():
    kept = _kept_by(HidesAll())
    assert list(kept(8, 5)) == [8, 0, 8, 4, 4]
    assert list(kept(8, 5, 64)) == [4] * 5
    assert _kept_by(Bernoulli()) is None
    assert list(_kept_by(Sizes())(8, 5)) == list(Sizes().kept(8, 5))


def test_a_row_without_patches():
    x = images(1)
    whole = torch.ones(2, PATCHES, dtype=torch.bool)
    whole[1] = False
    family = FAMILIES["timm, class token"]
    model = family.model()
    found = PatchLime().scores(model, x, whole, "all")[0, 1]
    assert (
        found - family.reference(model, x, torch.tensor([], dtype=torch.int64))[0]
    ).abs().max() <= 1e-10
    assert PatchLime(sampler=Orthogonal(), num_samples=64).explain(model, x).ok.all()
    averaging = PatchLime(sampler=HidesAll(), num_samples=64).explain(model_of("timm, average"), x)
    with pytest.raises(RuntimeError, match="NaN or infinite scores"):
        averaging.check()
    with pytest.raises(ValueError, match="hides every patch, and this network has no other token"):
        PatchLime().scores(model_of("SigLIP"), x, whole, "all")


def swin():
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 16, [1, 1], [2, 2], [3, 3], num_classes=3)


def hybrid():
    import timm

    return timm.create_model("vit_tiny_r_s16_p8_224")


def conv_stem():
    from torchvision.models.vision_transformer import ConvStemConfig

    stem = [ConvStemConfig(8, 3, 2), ConvStemConfig(8, 3, 2)]
    return VisionTransformer(24, 4, 1, 2, 16, 32, num_classes=3, conv_stem_configs=stem)


def convnext():
    from torchvision.models import convnext_tiny

    return convnext_tiny(weights=None)


def two():
    return torch.nn.ModuleDict({"a": torchvision_vit(), "b": timm_vit()})


def compiled_inside():
    return torch.nn.Sequential(torch.compile(torchvision_vit(), backend="eager"))


def compiled_in_place():
    model = torchvision_vit()
    model.compile(backend="eager")
    return model


REFUSED = {
    swin: r"SwinTransformer\) holds no vision transformer .* paint instead, by explain\(model",
    convnext: "ConvNeXt.* at='blocks.0', prefix=1",
    hybrid: r"VisionTransformer come from several layers .* seen its neighbours",
    conv_stem: r"several layers \(Sequential\)",
    two: r"several vision transformers \(VisionTransformer, VisionTransformer\); name the first",
    compiled_inside: "a part of the model is compiled",
    compiled_in_place: "a part of the model is compiled",
    lambda: Around(torchvision_vit(), lambda x: x).change: r"\(no network was found\)",
}


@pytest.mark.parametrize("make", REFUSED)
def test_what_is_not_understood_is_refused(make):
    with pytest.raises(ValueError, match=REFUSED[make]):
        explain_patches(make(), images(1, torch.float32), 0)


class Runs(torch.nn.Module):
    """A network that runs so many times a forward pass, after its first one."""

    def __init__(self, times):
        super().__init__()
        self.network = model_of()
        self.times = times

    def forward(self, images):
        return sum(
            (self.network(images) for _ in range(self.times)),
            start=images.mean((2, 3)).new_zeros(1, 5),
        )


@pytest.mark.parametrize(
    ("times", "message"), [(0, "did not run in a forward pass"), (2, "it ran 2 times")]
)
def test_the_network_must_run_once(times, message):
    model = Runs(times)
    with pytest.raises(ValueError, match=message):
        explain_patches(model, images(1), 0)
    assert count_hooks(model) == 0


def test_a_change_of_the_tokens_number_is_noticed():
    model = model_of("timm, other sizes")
    changing = Around(model, lambda x: x if len(x) == 1 else x[..., :12])
    with pytest.raises(
        ValueError, match=r"2 images of 1 tokens and 16 patches, \[2,17,D\], got \[2, 9"
    ):
        explain_patches(changing, images(2), 0)
    assert count_hooks(model) == 0


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"at": "blocks.0"}, ValueError, "at= and prefix= go together"),
        ({"at": "blocks.9", "prefix": 1}, ValueError, "at='blocks.9' must name one .* blocks.0"),
        ({"at": "head", "prefix": 1}, ValueError, "must name a module that is given tokens"),
        ({"at": "blocks.0", "prefix": -1}, ValueError, "prefix must be at least 0"),
        ({"segmenter": 3}, TypeError, "segmenter must be callable, got 3"),
        ({"fill": 0}, TypeError, "has no keyword 'fill'"),
        ({"max_segments": 3}, ValueError, "max_segments goes with segments="),
    ],
)
def test_bad_settings(settings, error, message):
    with pytest.raises(error, match=message):
        explain_patches(model_of(), images(1), 0, **settings)


def test_a_compiled_network_runs_as_it_was_and_stays_compiled():
    torch.compiler.reset()
    network, x = model_of("torchvision"), images(1)
    compiled = torch.compile(network, backend="aot_eager")
    with torch.no_grad():
        before = compiled(x)
        e = explain_patches(compiled, x, num_samples=50)
        plain = explain_patches(network, x, num_samples=50)
        after = compiled(x)
    assert torch.equal(e.coefficients, plain.coefficients)
    assert torch.equal(before, after)


def test_modes_hooks_and_random_states_come_back():
    model = model_of()
    model.blocks[0].train()
    state = torch.get_rng_state()
    explain_patches(model, images(), num_samples=30)
    assert model.blocks[0].training
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert count_hooks(model) == 0

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_patches(model, images(), num_samples=30, progress=interrupt)
    assert count_hooks(model) == 0


@pytest.mark.parametrize("name", ["torchvision", "timm, DINOv3", "DINOv3"])
def test_threads_share_a_network(name):
    model, x = model_of(name), images(4)
    explainer = PatchLime(num_samples=40, chunk_size=3)
    expected = [explainer.explain(model, x[b : b + 1]).coefficients for b in range(4)]
    with torch.no_grad():
        plain = model(x[:1])
    outputs = []

    def run(number):
        if number % 3 == 2:
            with torch.no_grad():
                outputs.append(model(x[:1]))
            return None
        return explainer.explain(model, x[number % 4 : number % 4 + 1]).coefficients

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(36)))
    for number, coefficients in enumerate(found):
        if coefficients is not None:
            assert torch.equal(coefficients, expected[number % 4])
    assert len(outputs) == 12
    assert all(torch.equal(output, plain) for output in outputs)
    assert count_hooks(model) == 0


def test_less_memory_means_smaller_chunks_of_the_same_rows():
    network = model_of()
    rows = []

    def block(module, args):
        rows.append(args[0].shape[0])
        if args[0].shape[0] * args[0].shape[1] > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")

    network.blocks[0].register_forward_pre_hook(block)
    expected = explain_patches(model_of(), images(), num_samples=60)
    found = explain_patches(network, images(), num_samples=60, chunk_size=32)
    assert found.coefficients.allclose(expected.coefficients, rtol=0, atol=1e-10)
    assert max(rows) > 16
    assert rows[-1] <= 60 // 6
    network.blocks[0].register_forward_pre_hook(
        lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError())
    )
    with pytest.raises(torch.OutOfMemoryError, match="a single row in the forward pass"):
        explain_patches(network, images(), num_samples=60)


def test_gradients_reach_the_weights_through_the_tokens_left():
    x = images()
    grads = []
    for size in (1, 7, 100):
        model = model_of("DINOv3")
        explainer = PatchLime(num_samples=40, chunk_size=size)
        explainer.explain(model, x, 0, differentiable=True).coefficients.square().sum().backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(grads[0]) > 20
    for other in grads[1:]:
        for ours, theirs in zip(grads[0], other, strict=True):
            assert ours.allclose(theirs, rtol=1e-8, atol=1e-10)
    model = model_of("DINOv3")
    weight, step = model.network.embeddings.patch_embeddings.weight, 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[3, 1, 2, 2] += sign * step
            values.append(
                PatchLime(num_samples=40).explain(model, x, 0).coefficients.square().sum()
            )
            weight[3, 1, 2, 2] -= sign * step
    slope = (values[0] - values[1]) / (2 * step)
    found = next(g for g in grads[0] if g.shape == weight.shape)[3, 1, 2, 2]
    assert abs(found) > 1e-6
    assert found.item() == pytest.approx(slope.item(), rel=1e-4)


def test_an_explanation_of_patches_is_one_like_others(tmp_path):
    model, x = model_of(), images()
    e = explain_patches(model, x, top=2, num_samples=60, segmenter=Grid(2, 2), keep_samples=True)
    again = e.refit(surrogate=LeastSquares())
    assert again.coefficients.shape == (2, 2, 4)
    e.save(tmp_path / "e.npz")
    loaded = Explanation.load(tmp_path / "e.npz")
    assert torch.equal(loaded.segments, e.segments)
    assert "left out" in e.settings["hidden"]
    areas = metrics.deletion(model, x, e, fill=Constant(0.0))
    assert areas.shape == (2, 2)
    assert isinstance(e.explainer, PatchLime)
    samples = e.explainer.samples(model, x, e.targets)
    assert torch.equal(samples.scores, e.sample_scores)


def test_float32_is_as_near_as_its_rounding():
    for name in ("torchvision", "timm, rope mixed", "DINOv2 with registers"):
        found = PatchLime().scores(
            model_of(name, torch.float32), images(2, torch.float32), some_masks(), "all"
        )
        wide = PatchLime().scores(
            model_of(name), images(2, torch.float32).double(), some_masks(), "all"
        )
        assert (found - wide).abs().max() <= 1e-5 * wide.abs().max()


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")
@pytest.mark.parametrize(
    "make", [torchvision_vit, timm_vit, functools.partial(eva, use_rot_pos_emb=True)]
)
def test_nothing_waits_for_the_device_where_the_sampler_knows_its_lengths(make):
    model = make().eval()
    with FakeTensorMode():
        for module in model.modules():
            for name, own in [*module._parameters.items()]:
                if own is not None:
                    fake = torch.empty(own.shape, device="cuda")
                    module._parameters[name] = torch.nn.Parameter(fake)
            for name, own in [*module._buffers.items()]:
                module._buffers[name] = torch.empty(own.shape, device="cuda")
        x = torch.empty(2, 3, SIZE, SIZE, device="cuda")
        seeds = torch.empty(2, dtype=torch.int64, device="cuda")
        with RefuseWaiting():
            e = explain_patches(model, x, top=2, num_samples=50, keep_samples=True)
            own = explain_patches(model, x, 0, num_samples=50, seed=seeds)
            equal = explain_patches(model, x, 0, num_samples=50, segmenter=Grid(2, 2))
        assert e.coefficients.shape == (2, 2, PATCHES)
        assert own.heatmap().shape == (2, 1, SIZE, SIZE)
        assert equal.coefficients.device.type == "cuda"
        for settings in ({"sampler": Bernoulli()}, {"segmenter": Slic(4)}):
            with pytest.raises(CAUGHT), RefuseWaiting():
                explain_patches(model, x, 0, num_samples=50, **settings)


def test_the_keywords_are_the_fields_and_arguments():
    fields = {field.name for field in dataclasses.fields(PatchLime)} - {"seed"}
    assert set(patches.PatchSettings.__annotations__) == fields
    arguments = set(inspect.signature(PatchLime.explain).parameters)
    call = set(patches.ExplainPatchSettings.__annotations__) - fields
    assert call == arguments - {"self", "model", "images", "targets"}


def test_given_masks_may_begin_with_a_short_row_that_names_the_classes():
    model, x = model_of(), images(8)
    masks = torch.stack([some_masks(9).roll(-b - 1, 0) for b in range(8)])
    every = PatchLime().scores(model, x, masks, "all")
    best = every[:, 0].argmax(1)
    assert (best != every[:, :].argmax(2).mode(1).values).any()
    assert len({int(row.sum()) for row in masks[:, 0]}) > 1
    for size in (1, 3, 100):
        found = PatchLime(chunk_size=size).scores(model, x, masks)
        expected = every.gather(2, best[:, None, None].expand(-1, 9, 1))
        assert found.allclose(expected, rtol=0, atol=1e-12)


def features_of(model, x, groups=None, size=None):
    with undisturbed(x.device):
        vit = vit_of(model)
        grid = vit.grid(BlackBox(model, x.device, Forward()), x[:1])
        segments = groups and as_groups(groups(pooled(x, grid)), x, grid)
        return Tokens(x, vit, grid, segments, Sizes().kept, size)


@pytest.mark.parametrize("first", [0, 7])
@pytest.mark.parametrize(("groups", "size"), [(None, None), (Grid(2, 4), 2)])
def test_known_lengths_are_those_of_the_design(first, groups, size):
    model, x = model_of(), images()
    features = features_of(model, x, groups, size)
    design = Sizes()(features.count, features.bound, 40, seed=torch.tensor([1, 2]), first=first)
    rows = features.rows(design, BlackBox(model, x.device, Forward()), first)
    assert [features.known_lengths(40, first)] * 2 == rows.lengths
    patches = design if groups is None else design.repeat_interleave(2, 2)
    assert sorted(patches.sum(2)[0].tolist()) == sorted(rows.lengths[0])


class Rounds:
    def sizes(self, number):
        return (number - 30, 13, 17)

    def settled(self, fit, count):
        return False


@pytest.mark.parametrize("sampler", [Sizes(), Bernoulli()], ids=repr)
def test_rounds_are_parts_of_one_design(sampler):
    model, x = model_of(), images()
    settings = {"sampler": sampler, "num_samples": 60, "kernel": Uniform(), "keep_samples": True}
    settings["surrogate"] = LeastSquares()
    once, more = (
        local_fit(model, features_of(model, x), rounds=rounds, **settings)
        for rounds in (Once(), Rounds())
    )
    assert torch.equal(once.masks, more.masks)
    assert once.sample_scores.allclose(more.sample_scores, rtol=0, atol=1e-12)
    assert once.coefficients.allclose(more.coefficients, rtol=0, atol=1e-9)


def test_patches_of_the_background_are_always_kept():
    model, x = model_of(), images()
    groups = torch.randint(-1, 3, (2, SIDE, SIDE), generator=torch.manual_seed(5)) * 10
    groups[groups < 0] = -1
    settings = {"segments": groups, "sampler": Exhaustive(), "num_samples": 8}
    e = explain_patches(model, x, 0, keep_samples=True, **settings).check()
    assert e.ids.tolist() == [[0, 10, 20]] * 2  # in the caller's terms
    wide = groups.flatten(1)
    kept = torch.stack(
        [
            torch.stack([(wide[b] < 0) | row[(wide[b] // 10).clamp(min=0)] for row in e.masks[b]])
            for b in range(2)
        ]
    )
    assert torch.allclose(e.sample_scores, PatchLime().scores(model, x, kept, 0), atol=1e-10)
    assert ((groups < 0).sum((1, 2)) > 0).all()
    chunked = explain_patches(model, x, 0, chunk_size=3, exact_chunks=True, **settings)
    assert torch.allclose(chunked.coefficients, e.coefficients, atol=1e-10)


@pytest.mark.parametrize("bad", [torch.rand(3, SIZE, SIZE), torch.ones(2, 3, dtype=torch.int64)])
def test_what_is_no_batch_of_images_has_a_sentence(bad):
    with pytest.raises((TypeError, ValueError), match="images must"):
        explain_patches(model_of(), bad, 0)
