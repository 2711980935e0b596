"""Explanations in a training loop: they leave no trace, and the logger does its duty."""

import contextlib
import copy
import dataclasses
import json
import math
import os
import pickle
import random
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from tests.pictures import read_png
from torchlime import Lime, explain, plot, training
from torchlime.masks import Bernoulli
from torchlime.segments import Grid, Slic
from torchlime.training import ExplanationLogger, ignite_handler
from torchlime.training import logger as loggers

EXPLAINER = Lime(segmenter=Grid(3, 3), sampler=Bernoulli(), num_samples=24, chunk_size=20)


def data(batch=20, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, 12, 12, generator=g), torch.randint(4, (batch,), generator=g)


class Net(nn.Module):
    """A CNN with dropout, a BatchNorm in training and a frozen one, which only its user freezes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, stride=2)
        self.frozen = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(8, 4)
        self.unused = nn.Linear(2, 2)  # its gradient stays None
        self.frozen.requires_grad_(False).eval()

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        x = self.dropout(self.frozen(self.second(x)).relu())
        return self.head(x.mean((2, 3)))


def random_states():
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), keys.tolist(), position


def modes_of(net):
    return {name: module.training for name, module in net.named_modules()}


def contexts():
    autocast = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    cache = torch.is_autocast_cache_enabled()
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), autocast, cache


def state(model):
    """All that an explanation could leave a trace in."""
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return tensors, grads, modes_of(model), random_states(), contexts()


@contextlib.contextmanager
def no_trace(model):
    """What is inside leaves none at once, in the caller's contexts; also when it raises."""
    before = state(model)
    try:
        yield
    finally:
        assert_identical(state(model), before)


def fit(interrupt, context=contextlib.nullcontext, wrap=lambda net: net):
    """Train for three epochs, calling ``interrupt(model, batch, step)`` between all operations.

    Returns everything that training has left behind.
    """
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    net = Net()
    model = wrap(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    images, labels = data()
    trace = []
    for step in range(9):
        rows = slice(8 * (step % 3), 8 * (step % 3) + 8)  # the last batch is smaller
        batch = images[rows], labels[rows]
        with context():
            interrupt(model, batch, step)  # before the forward pass, whose autocast it shares
            loss = cross_entropy(model(batch[0]).float(), batch[1])
            interrupt(model, batch, step)  # between forward and backward
        optimizer.zero_grad()
        loss.backward()
        interrupt(model, batch, step)  # with gradients in place
        trace.append((loss.item(), random.random(), np.random.rand(), state(net)))  # noqa: NPY002
        optimizer.step()
    return optimizer.state_dict()["state"], trace, state(net)


def assert_identical(one, other):
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_identical(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_identical(a, b)
    else:
        assert one == other


def nothing(model, batch, step):
    pass


def explaining(model, batch, step, **settings):
    with no_trace(model):
        EXPLAINER.explain(model, *batch, **settings)


def explaining_slic(model, batch, step):
    with no_trace(model):
        explain(model, batch[0], top=2, segmenter=Slic(9), num_samples=32)


def explaining_differentiably(model, batch, step):
    explaining(model, batch, step, differentiable=True, seed=step)


def explaining_without_gradients(model, batch, step):
    with torch.no_grad():
        explaining(model, batch, step)


def explaining_in_inference_mode(model, batch, step):
    with torch.inference_mode():
        explaining(model, batch, step)


def explaining_in_autocast(model, batch, step):
    with torch.autocast("cpu", torch.bfloat16):
        explaining(model, batch, step)


class HalfWay(Exception):
    pass


def raising_half_way(model, batch, step):
    calls = []

    def fails(module, arguments):
        assert not any(modes_of(model).values())
        calls.append(1)
        torch.rand(2), random.random(), np.random.rand()  # noqa: NPY002  moves every generator
        if len(calls) == 3:
            raise HalfWay

    handle = model.second.register_forward_pre_hook(fails)
    with pytest.raises(HalfWay):
        explaining(model, batch, step)
    handle.remove()


def logging_(model, batch, step):
    images, labels = batch
    logger = ExplanationLogger(EXPLAINER, images[:2], labels[:2], lambda *entry: None, every=2)
    with no_trace(model):
        logger.step(model, step)


INTERRUPTIONS = [
    explaining, explaining_slic, explaining_differentiably, explaining_without_gradients,
    explaining_in_inference_mode, explaining_in_autocast, raising_half_way, logging_,
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed():
    return fit(nothing)


@pytest.mark.parametrize("interrupt", INTERRUPTIONS)
def test_training_is_bit_identical(interrupt, undisturbed):
    assert_identical(fit(interrupt), undisturbed)


def test_the_comparison_sees_a_trace(undisturbed):
    """The net catches: each of these would go unnoticed by a weaker comparison."""

    def draws(model, batch, step):
        torch.rand(1)

    def forwards(model, batch, step):
        with torch.no_grad():
            model(batch[0])  # moves BatchNorm's statistics

    def unfreezes(model, batch, step):
        was = model.training
        model.eval().train(was)  # a naive restore of the modes

    def zeroes(model, batch, step):
        for p in model.unused.parameters():
            p.grad = torch.zeros_like(p)

    for disturb in (draws, forwards, unfreezes, zeroes):
        with pytest.raises(AssertionError):
            assert_identical(fit(disturb), undisturbed)


def test_training_in_autocast_is_bit_identical():
    """Also where the explanation fills the caller's cache of weights, without gradients."""

    def autocast():
        return torch.autocast("cpu", torch.bfloat16)

    assert_identical(fit(explaining, autocast), fit(nothing, autocast))


def test_compiled_models():
    def compiled(net):
        return torch.compile(net, backend="aot_eager")

    explained = fit(explaining, wrap=compiled)
    assert_identical(explained, fit(nothing, wrap=compiled))
    net = Net()
    images, labels = data(3)
    expected = EXPLAINER.explain(net, images, labels).coefficients
    assert EXPLAINER.explain(compiled(net), images, labels).coefficients.allclose(expected)


# ---- two processes -------------------------------------------------------------------------------


def in_two_processes(worker, tmp_path):
    torch.multiprocessing.start_processes(
        _start, (worker, str(tmp_path)), nprocs=2, start_method="spawn"
    )


def _start(rank, worker, folder):
    import datetime

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )  # fmt: skip
    worker(rank, Path(folder))
    torch.distributed.barrier()  # else a rank that is done closes its sockets under the other
    torch.distributed.destroy_process_group()
    os._exit(0)  # a thread of gloo once aborted the end of the interpreter


def _distributed(rank, folder):
    """DDP: explaining on rank 0 alone neither hangs nor changes what is trained."""

    def only_on_rank_0(model, batch, step):
        if rank == 0:
            explaining(model, batch, step)
        logger = ExplanationLogger(EXPLAINER, *batch, folder / f"log-{rank}")
        assert (logger.step(model, step) is None) == (rank == 1)

    def wrap(net):
        return DistributedDataParallel(net, find_unused_parameters=True)

    assert_identical(fit(only_on_rank_0, wrap=wrap), fit(nothing, wrap=wrap))


def _sharded(rank, folder):
    """FSDP: every rank calls the logger, all explain, rank 0 writes."""
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    net = Net()
    images, labels = data(3)
    expected = EXPLAINER.explain(net, images, labels).coefficients
    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    fully_shard(net, mesh=mesh)
    logger = ExplanationLogger(EXPLAINER, images, labels, folder / f"log-{rank}")
    explanation = logger.step(net, 0)
    assert explanation.coefficients.allclose(expected, atol=1e-5)
    assert logger.step(lambda x: net(x), 1) is not None
    assert loggers._needs_every_rank(net.forward)
    net(images).sum().backward()


def _penalised(rank, folder):
    """DDP: a penalty on the inner module is reduced along with a loss through the wrapper."""
    images, labels = data(3)

    def loss(net, inner, shift):
        e = EXPLAINER.explain(inner, images + shift, labels, differentiable=True)
        scores = net(images + shift)
        return torch.nn.functional.cross_entropy(scores, labels) + e.coefficients.square().sum()

    torch.manual_seed(0)
    net = Net().eval()
    alone = copy.deepcopy(net)
    sum(loss(alone, alone, shift) / 2 for shift in range(2)).backward()
    ddp = DistributedDataParallel(net, find_unused_parameters=True)
    loss(ddp, ddp.module, rank).backward()
    trained = [(a.grad, b.grad) for a, b in zip(net.parameters(), alone.parameters(), strict=True)]
    trained = [pair for pair in trained if pair[1] is not None]
    assert len(trained) == 8
    assert all(ours.allclose(expected, rtol=1e-3, atol=1e-5) for ours, expected in trained)

    holder = SimpleNamespace(model=ddp)
    with pytest.raises(ValueError, match="would wait for the other ranks"):
        EXPLAINER.explain(lambda x: holder.model(x), images, labels)


def test_a_penalty_in_two_processes(tmp_path):
    in_two_processes(_penalised, tmp_path)


@pytest.mark.parametrize("worker", [_distributed, _sharded])
def test_two_processes(worker, tmp_path):
    in_two_processes(worker, tmp_path)
    assert (tmp_path / "log-0" / "numbers.jsonl").exists()
    assert not (tmp_path / "log-1").exists()


# ---- the logger ----------------------------------------------------------------------------------


NUMBERS = ("score", "fidelity", "unwell")


class Entries(list):
    def __call__(self, step, picture, numbers):
        self.append((step, picture, numbers))


def logged(images, targets, sink=print, **settings):
    return ExplanationLogger(EXPLAINER, images, targets, sink, **settings)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def test_cadence_seed_and_contents(net):
    images, labels = data(3)
    inside = torch.zeros(12, 12, dtype=torch.bool)
    inside[:4] = True
    entries = []
    logger = ExplanationLogger(
        EXPLAINER, images, labels, lambda *entry: entries.append(entry), every=5, objects=inside
    )
    returned = [logger.step(net, step) for step in range(11)]
    assert [step for step, e in enumerate(returned) if e is not None] == [0, 5, 10]
    assert [entry[0] for entry in entries] == [0, 5, 10]
    _, picture, numbers = entries[0]
    assert torch.equal(picture, entries[1][1])  # one seed
    assert numbers == entries[2][2]
    assert (picture.dtype, tuple(picture.shape)) == (torch.uint8, (3, 120, 3 * 120 + 2 * 8))
    e = EXPLAINER.explain(net, images, labels)
    assert numbers["score"] == e.scores.mean().item()
    assert numbers["fidelity"] == e.fidelity.mean().item()
    assert numbers["unwell"] == 0
    evidence = e.coefficients.clamp(min=0)
    share = (evidence[..., :3].sum(2) / evidence.sum(2)).mean().item()
    assert numbers["inside"] == pytest.approx(share)


def test_unwell_explanations_are_counted_and_left_out(net):
    images, labels = data(4)
    broken = images.clone()
    broken[1, 0, 0, 0] = float("nan")
    entries, inside = Entries(), torch.ones(12, 12, dtype=torch.bool)
    explanation = logged(broken, labels, entries, objects=inside).step(net, 0)
    _, _, numbers = entries[0]
    assert numbers["unwell"] == 0.25
    well = [0, 2, 3]
    assert numbers["score"] == explanation.scores[well].mean().item()
    assert numbers["fidelity"] == explanation.fidelity[well].mean().item()
    assert numbers["inside"] == pytest.approx(1)


def test_numbers_of_no_image_are_null(net, tmp_path):
    images, labels = data(2)
    logged(images * math.nan, labels, tmp_path).step(net, 0)
    line = (tmp_path / "numbers.jsonl").read_text()
    numbers = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert numbers == {"step": 0, "score": None, "fidelity": None, "unwell": 1.0}
    assert (tmp_path / "00000000.png").exists()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_any_number_of_channels(channels):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.rand(2, channels, 12, 12)
    entries = Entries()
    explanation = logged(images, torch.tensor([0, 1]), entries).step(net, 0)
    _, picture, numbers = entries[0]
    assert numbers["score"] == explanation.scores.mean().item()
    shown = images if channels in (1, 3, 4) else images.mean(1, keepdim=True)
    large = [
        t.repeat_interleave(10, -2).repeat_interleave(10, -1) for t in (explanation.segments, shown)
    ]
    first = dataclasses.replace(explanation, segments=large[0])[0]
    assert torch.equal(picture[:, :, :120], plot.overlay(first, large[1][0]))


def test_an_error_of_ours_is_not_taken_for_the_sinks(net, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr(plot, "overlay", broken)
    with pytest.raises(ZeroDivisionError):
        logged(*data(2), sink=lambda *entry: None).step(net, 0)


def test_a_folder(net, tmp_path):
    images, labels = data(10)
    logger = ExplanationLogger(EXPLAINER, images, labels, str(tmp_path / "a" / "b"), every=2)
    for step in (2, 3, 4):
        logger.step(net, step)
    folder = tmp_path / "a" / "b"
    names = ["00000002.png", "00000004.png", "numbers.jsonl"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert read_png(folder / names[0]).shape == (3, 2 * 120 + 8, 8 * 120 + 7 * 8)
    lines = [json.loads(line) for line in (folder / "numbers.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert lines[0].keys() == {"step", *NUMBERS}


def test_a_resumed_run_replaces_what_it_logs_again(net, tmp_path):
    images, labels = data(2)
    for start in (0, 2):
        for step in range(start, 5 - start):
            logged(images, labels, tmp_path).step(net, step)
        with torch.no_grad():
            net.head.bias += 1
    lines = [json.loads(line) for line in (tmp_path / "numbers.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]
    scores = [line["score"] - lines[0]["score"] for line in lines]
    assert scores == pytest.approx([0, 0, 1, 0, 0], abs=1e-5)


def test_an_object_with_log(net):
    images, labels = data(1)  # B = 1

    class Run:
        def __init__(self):
            self.entries = []

        def log(self, entries, step):
            self.entries.append((step, entries))

    run = Run()
    ExplanationLogger(EXPLAINER, images, labels, run, name="why").step(net, 7)
    [(step, entries)] = run.entries
    assert step == 7
    assert entries.keys() == {f"why/{key}" for key in ("overlay", "step", *NUMBERS)}
    assert entries["why/step"] == 7
    assert entries["why/overlay"].size == (120, 120)  # an image of PIL's, as wandb.Image takes it


def test_a_run_that_drops_steps_behind_its_own_drops_nothing(net):
    """W&B's rule; its other callers count otherwise, or move its step on with each entry."""

    class Run:
        step = 0

        def __init__(self):
            self.metrics, self.entries = set(), []

        def define_metric(self, name, step_metric):
            self.metrics.add((name, step_metric))

        def log(self, entries, step=None):
            step = self.step if step is None else step
            if step >= self.step:
                self.step = step + 1
                self.entries.append(entries)

    run = Run()
    logger = logged(*data(1), sink=run)
    for epoch in (1, 2, 3):  # the caller counts epochs, the logger steps
        run.log({"loss": epoch}, step=2 * epoch)
        logger.step(net, 400 * epoch)
    steps = [e.get("explanations/step", e.get("loss")) for e in run.entries]
    assert steps == [1, 400, 2, 800, 3, 1200]
    assert run.metrics == {("explanations/*", "explanations/step")}


def test_tensorboard(net, tmp_path):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    images, labels = data(2)
    with SummaryWriter(str(tmp_path)) as writer:
        logger = ExplanationLogger(EXPLAINER, images, labels, writer)
        explanations = [logger.step(net, step) for step in (3, 4)]
    events = EventAccumulator(str(tmp_path)).Reload()
    scores = [(event.step, event.value) for event in events.Scalars("explanations/score")]
    expected = [(3, explanations[0].scores.mean()), (4, explanations[1].scores.mean())]
    assert scores == [(step, pytest.approx(score.item())) for step, score in expected]
    pictures = events.Images("explanations/overlay")
    assert [(p.step, p.height, p.width) for p in pictures] == [(3, 120, 248), (4, 120, 248)]


def test_a_sinks_error_is_reported_once_and_does_not_stop(net):
    images, labels = data(2)
    written = []

    def sink(step, picture, numbers):
        if step < 3:
            raise OSError("disk full")
        written.append(step)

    logger = ExplanationLogger(EXPLAINER, images, labels, sink)
    with pytest.warns(RuntimeWarning, match=r"step 0 could not be logged \(OSError: disk full\)"):
        assert logger.step(net, 0) is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in (1, 2, 3):
            logger.step(net, step)
    assert written == [3]


class Tuple(Net):
    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: EXPLAINER.explain(Net(), x, 4), IndexError, "targets=4, but the model has 4"),
        (lambda x, y: EXPLAINER.explain(Net(), x, y + 9).check(), RuntimeError,
         "image 0: a target is not a class"),
        (lambda x, y: EXPLAINER.explain(Net(), x, y.to("meta")), ValueError,
         "targets is on meta, the images are on cpu"),
        (lambda x, y: EXPLAINER.explain(Tuple(), x, y), TypeError, "got tuple; wrap it"),
        (lambda x, y: logged(x, y).step(Tuple(), 0), TypeError, "got tuple; wrap it"),
        (lambda x, y: logged(x, y.to("meta")), ValueError, "targets is on meta"),
        (lambda x, y: logged(x, ["a"] * 3), TypeError, "targets must be None, an int or an int"),
        (lambda x, y: logged(x[0], y), ValueError, "add the batch axis"),
        (lambda x, y: logged(x, y, sink=3), TypeError, "sink must be a folder, .* got int"),
        (lambda x, y: logged(x, y, every=0), ValueError, "every must be at least 1"),
        (lambda x, y: logged(x, y, objects=[1]), TypeError, "objects must be bool .* got list"),
        (lambda x, y: logged(x, y, objects=x[:, 0]), ValueError, "objects must be bool"),
        (lambda x, y: logged(x, y, objects=x[:, 0, 1:] > 0), ValueError, r"got torch.bool \[3, 11"),
        (lambda x, y: training.Keras, AttributeError, "has no attribute 'Keras'"),
    ],
)  # fmt: skip
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call(*data(3))


def test_one_image_a_smaller_batch_and_images_with_requires_grad(net):
    images, labels = data(5)
    whole = EXPLAINER.explain(net, images, labels)
    for part in (slice(0, 1), slice(3, 5)):
        alone = EXPLAINER.explain(net, images[part], labels[part])
        assert alone.coefficients.allclose(whole[part].coefficients, atol=1e-5)
    images.requires_grad_()
    tracked = EXPLAINER.explain(net, images, labels)
    assert torch.equal(tracked.coefficients, whole.coefficients)
    assert not tracked.coefficients.requires_grad
    assert images.grad is None
    assert logged(images, labels, sink=lambda *entry: None).step(net, 0) is not None


def test_rows_forwarded_are_what_the_docs_state(net):
    images, labels = data(5)
    rows = []
    net.first.register_forward_pre_hook(lambda module, x: rows.append(len(x[0])))
    EXPLAINER.explain(net, images, labels)
    assert sum(rows) == 5 * 24  # B·N, whatever the targets


# ---- adapters, each with the real library --------------------------------------------------------


@pytest.fixture
def lightning_fit(net, tmp_path):
    """Fit 4 epochs of 2 steps with some callbacks, and return the weights."""
    lightning = pytest.importorskip("lightning.pytorch", reason="pip install lightning")
    images, labels = data(16)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = copy.deepcopy(net)

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, index):
            return cross_entropy(self(batch[0]), batch[1])

        validation_step = training_step

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def run(callbacks, validate=False, **settings):
        lightning.seed_everything(0, verbose=False)
        loader = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(images, labels), batch_size=8, shuffle=True
        )
        module = Module()
        trainer = lightning.Trainer(
            max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=callbacks,
            default_root_dir=str(tmp_path), num_sanity_val_steps=2, **settings,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer.fit(module, loader, loader)
            weights = copy.deepcopy(module.state_dict())
            if validate:
                trainer.validate(module, loader, verbose=False)
        return weights

    return run


@pytest.mark.parametrize(
    ("settings", "every", "steps"),
    [
        ({}, 1, [2, 4, 6, 8]),  # not the sanity check
        ({}, 3, [2, 8]),
        ({"validate": True}, 2, [2, 6, 8]),  # under inference_mode
        ({"check_val_every_n_epoch": 2}, 2, [4]),
        ({"val_check_interval": 0.5}, 1, [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_lightning(lightning_fit, settings, every, steps):
    images, labels = data(2)
    entries = Entries()
    callback = training.LightningCallback(logged(images, labels, entries, every=every))
    assert_identical(lightning_fit([callback], **settings), lightning_fit([], **settings))
    assert [step for step, *_ in entries] == steps


def test_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="pip install transformers")
    pytest.importorskip("accelerate", reason="pip install 'transformers[torch]'")
    images, labels = data()
    rows = [
        {"pixel_values": image, "labels": label}
        for image, label in zip(images, labels, strict=True)
    ]
    entries = Entries()
    logger = logged(images[:2], labels[:2], entries, every=2)

    def run(callbacks):
        transformers.set_seed(0)
        config = transformers.ViTConfig(
            image_size=12, patch_size=4, hidden_size=16, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=16, num_labels=4, hidden_dropout_prob=0.1,
        )  # fmt: skip
        model = transformers.ViTForImageClassification(config)
        arguments = transformers.TrainingArguments(
            str(tmp_path), num_train_epochs=3, per_device_train_batch_size=8, use_cpu=True,
            eval_strategy="epoch", save_strategy="no", report_to=[], disable_tqdm=True, seed=0,
        )  # fmt: skip
        trainer = transformers.Trainer(
            model, arguments, train_dataset=rows, eval_dataset=rows[:4], callbacks=callbacks
        )
        trainer.train()
        return model.state_dict()

    callback = training.TransformersCallback(logger)
    assert_identical(run([callback]), run([]))
    assert [step for step, *_ in entries] == [3, 9]  # of three steps an epoch, every other epoch


def test_ignite(net):
    engine = pytest.importorskip("ignite.engine", reason="pip install pytorch-ignite")
    images, labels = data()

    def run(handler=None):
        torch.manual_seed(0)
        model = copy.deepcopy(net)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def update(engine, batch):
            optimizer.zero_grad()
            cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()

        trainer = engine.Engine(update)
        if handler is not None:
            trainer.add_event_handler(engine.Events.EPOCH_COMPLETED, handler(model))
        trainer.run([slice(0, 8), slice(8, 16)], max_epochs=4)
        return model.state_dict()

    entries = Entries()
    logger = logged(images[:2], labels[:2], entries, every=2)
    assert_identical(run(lambda model: ignite_handler(logger, model)), run())
    assert [step for step, *_ in entries] == [2, 6]  # of two iterations an epoch, every other epoch


@pytest.mark.parametrize("name", ["LightningCallback", "TransformersCallback"])
def test_adapters_are_callbacks_and_pickle(name, net, tmp_path):
    """Lightning's strategies that spawn send them to their processes."""
    _, module, base = training.ADAPTERS[name]
    library = pytest.importorskip(module)
    callback = getattr(training, name)(logged(*data(2), sink=tmp_path))
    assert isinstance(callback, getattr(library, base))
    pickle.loads(pickle.dumps(callback)).logger.step(net, 0)
    assert (tmp_path / "00000000.png").exists()


def test_the_adapters_libraries_are_imported_lazily():
    code = (
        "import sys, torchlime.training; "
        "print(*{'lightning', 'transformers', 'ignite', 'tensorboard', 'wandb'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=Path(__file__).parents[1])  # fmt: skip
    assert run.stdout.split() == []


@pytest.mark.parametrize("name", ["LightningCallback", "TransformersCallback"])
def test_a_missing_library_is_named(name, monkeypatch):
    monkeypatch.delitem(vars(training), name, raising=False)
    package = training.ADAPTERS[name][1].partition(".")[0]
    for module in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{name} needs .* {package}: .*torchlime\[training\]"):
        getattr(training, name)


@pytest.mark.parametrize("explainer", [None, Lime], ids=["None", "the class"])
def test_what_is_no_explainer(explainer):
    with pytest.raises(TypeError, match=r"explainer must be a Lime\(\.\.\.\)"):
        ExplanationLogger(explainer, *data(1), sink=print)
