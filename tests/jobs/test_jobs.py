"""Jobs in this process: what is chosen, what is written, what is the same, what goes wrong."""

import dataclasses
import errno
import functools
import json
import multiprocessing
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import torchlime
from tests import tiny
from tests.jobs.folder import SETTINGS, assert_same_rows, good, photo, rows, run
from tests.pictures import bomb, labelled_photos, read_png
from torchlime import Lime, jobs, models
from torchlime.fills import Constant
from torchlime.jobs.decoders import Decoded
from torchlime.jobs.identity import described, seed_of, weights_hash
from torchlime.jobs.rows import explanation_of, schema
from torchlime.jobs.store import ROWS_IN_A_FILE, Store, picture_path
from torchlime.segments import Grid, Slic

pytest.importorskip("pyarrow")
import pyarrow.parquet as pq


@pytest.fixture
def root(tmp_path):
    return good(tmp_path / "photos")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


# What is written


def test_every_photo_is_a_row_that_gives_its_explanation_back(root, out):
    assert run(root, out) == jobs.Summary(explained=10, failed=0, before=0, failures=0)
    found = jobs.read(out)
    assert list(found)[:2] == ["blue/002.png", "blue/005.png"]
    assert len(found) == 10
    assert found.failures == {}
    for photo_id, read in found.items():
        classifier = tiny.bright()
        pixels = classifier.preprocess(root / photo_id)
        seed = torch.tensor([seed_of(0, photo_id)])
        made = SETTINGS.explain(classifier, pixels, seed=seed)
        for name in ("targets", "segments", "segment_count", "problems"):
            assert torch.equal(getattr(read, name), getattr(made, name)), name
        count = int(made.segment_count)
        largest = made.coefficients.abs().max()
        for name in ("coefficients", "standard_errors"):
            ours, theirs = getattr(read, name), getattr(made, name)[..., :count]
            assert (ours - theirs).abs().max() < 1e-5 * largest
        for name in ("intercepts", "fidelity", "scores", "local_predictions"):
            assert torch.allclose(getattr(read, name), getattr(made, name), atol=1e-5)
        assert torch.allclose(read.effective_samples, made.effective_samples)
        assert read.settings["seed"] == seed.item()
        assert read.settings["segmenter"] == repr(SETTINGS.segmenter)
        assert read.check().heatmap().shape == (1, 1, 16, 16)


def test_the_columns(root, out):
    run(root, out, model="a name", targets=(2, 0))
    table = pq.read_table(out)  # the folder itself is the dataset
    assert table.schema.equals(schema())
    row = {r["id"]: r for r in table.to_pylist()}["red/000.png"]
    assert (row["class"], row["status"], row["error"]) == ("red", "ok", None)
    assert (row["predicted"], row["predicted_name"]) == (0, "Red, crimson")
    assert (row["targets"], row["target_names"]) == ([2, 0], ["navy blue, blue", "Red, crimson"])
    assert row["probability"] == pytest.approx(row["scores"][1], abs=1e-6)
    assert (row["width"], row["height"], row["box"]) == (30, 20, [7, 2, 23, 18])
    assert np.shape(row["coefficients"]) == np.shape(row["standard_errors"])
    assert (row["model"], row["weights"]) == ("a name", weights_hash(tiny.Bright()))
    assert (row["torchlime"], row["torch"]) == (torchlime.__version__, torch.__version__)
    assert json.loads(row["settings"])["num_samples"] == "32"


@pytest.mark.parametrize(
    ("output", "expected"), [("softmax", "score"), ("logit", "softmax"), ("none", None)]
)
def test_the_probability_is_known_or_not_told(root, out, output, expected):
    classifier = models.Classifier(tiny.Bright(), tiny.SMALL, output=output)
    settings = {"engine": jobs.Local(workers=0), "explainer": SETTINGS}
    jobs.run(root, out, classifier, top=3, **settings)
    row = rows(out)["red/000.png"]
    known = {
        "score": row["scores"][0],
        "softmax": torch.tensor(row["scores"]).softmax(0)[0].item(),
    }.get(expected)
    assert row["probability"] == (None if known is None else pytest.approx(known, abs=1e-6))
    assert row["predicted_name"] == "class 0"


def test_few_files_come_of_many_rows(out):
    row = dict.fromkeys(schema().names) | {"status": "ok"}
    with Store(out) as store:
        store.begin({}, out)
        for number in range(0, ROWS_IN_A_FILE + 40, 8):
            store.add([row | {"id": str(number + i)} for i in range(8)])
            assert len(list(jobs.read(out).rows("id"))) == number + 8  # at once
    assert len(list(out.glob("*.parquet"))) == 2


def test_pictures_on_request(root, out):
    assert not (run(root, out) and (out / "_pictures").exists())
    run(root, out, overwrite=True, pictures=True, top=2)
    for photo_id in jobs.read(out):
        picture = read_png(picture_path(out, photo_id))
        assert picture.shape == (3, 20, 2 * 30 + 8)
    assert pq.read_table(out).num_rows == 10  # they are no part of the dataset
    long = "ü" * 125 + ".jpg"
    assert len(os.fsencode(picture_path(out, long).name)) < 255


def test_pictures_of_earlier_rows(root, out, tmp_path):
    run(root, tmp_path / "whole", pictures=True)
    run(root, out, label="red", targets=(0,))
    run(root, out, label="red", targets=(0,), pictures=True)
    assert os.listdir(out / "_pictures") == ["red"]
    path = picture_path(out, "red/000.png")
    assert torch.equal(read_png(path), read_png(picture_path(tmp_path / "whole", "red/000.png")))
    path.write_bytes(b"drawn already")
    run(root, out, label="red", targets=(0,), pictures=True)
    assert path.read_bytes() == b"drawn already"


@pytest.mark.parametrize("ids", [("a.png", "a.png.png/b.png"), ("a.png.png/b.png", "a.png")])
def test_pictures_whose_names_are_in_the_way(root, out, ids):
    with Store(out) as store:
        for photo_id in ids:
            store.draw(photo_id, photo_id.encode())
    assert [picture_path(out, photo_id).read_text() for photo_id in ids] == list(ids)


def test_pictures_of_a_folder_with_the_name_of_a_photo(root, out):
    (root / "red").rename(root / "red.png")
    for _ in range(2):
        run(root, out, pictures=True, overwrite=True)
    assert all(read_png(picture_path(out, i)).shape == (3, 20, 30) for i in jobs.read(out))


def test_pictures_in_the_photos_folder_are_no_photos(root):
    run(root, root / "out", pictures=True)
    assert run(root, root / "out").before == 10


# The same result everywhere


def test_batches_change_nothing(root, out, tmp_path):
    photo(50, size=(90, 40)).save(root / "red/large.png")
    (root / "red/bad.png").write_text("no image")
    run(root, out, jobs.Local(workers=0, at_once=8))
    expected = rows(out)
    for at_once, workers in ((1, 0), (3, 2)):
        run(root, tmp_path / "other", jobs.Local(workers, at_once), overwrite=True)
        assert_same_rows(rows(tmp_path / "other"), expected)


def test_real_photos_by_a_real_network(tmp_path, out):
    """Photos that foolbox ships, their class in their names, through trained weights."""
    classifier = models.load("efficientnet_lite0")
    for path, label in labelled_photos()[5:8]:
        folder = tmp_path / "photos" / classifier.category(label)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)
    explainer = Lime(segmenter=Slic(8), num_samples=32)
    for folder, at_once in ((out, 1), (tmp_path / "other", 8)):
        engine = jobs.Local(workers=0, at_once=at_once)
        jobs.run(tmp_path / "photos", folder, classifier, explainer, engine=engine)
    assert_same_rows(rows(tmp_path / "other"), rows(out))
    assert [row["class"] for row in rows(out).values()] == ["jeep", "jeep", "thatch"]
    assert rows(out)["thatch/imagenet_05_853.jpg"]["predicted_name"] == "thatch"


def test_photos_of_different_sizes_go_together(tmp_path, out):
    (tmp_path / "photos").mkdir()
    for number, size in enumerate([(20, 16), (24, 16), (20, 16), (16, 20)]):
        photo(number, size).save(tmp_path / f"photos/{number}.png")
    settings = {"engine": jobs.Local(workers=0), "explainer": SETTINGS}
    jobs.run(tmp_path / "photos", out, tiny.uncropped(), **settings)
    shapes = [tuple(e.segments.shape[1:]) for e in jobs.read(out).values()]
    assert shapes == [(16, 20), (16, 24), (16, 20), (20, 16)]


def test_seeds():
    assert seed_of(0, "a") == seed_of(0, "a")
    seeds = {seed_of(seed, photo_id) for seed in (0, 1, 10) for photo_id in ("a", "b", "0 a")}
    assert len(seeds) == 9
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)


def test_an_explanation_depends_on_seed_and_id(root, tmp_path):
    run(root, tmp_path / "0")
    run(root, tmp_path / "1", explainer=dataclasses.replace(SETTINGS, seed=1))
    (root / "red/000.png").rename(root / "red/new.png")
    run(root, tmp_path / "renamed")
    first, other, renamed = (jobs.read(tmp_path / name) for name in ("0", "1", "renamed"))
    same = torch.equal
    assert not same(first["red/000.png"].coefficients, other["red/000.png"].coefficients)
    assert not same(first["red/000.png"].coefficients, renamed["red/new.png"].coefficients)
    assert same(first["red/003.png"].segments, renamed["red/003.png"].segments)


def test_the_global_generator_is_not_moved(root, out):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    run(root, out)
    assert torch.equal(torch.random.get_rng_state(), before)


# Labels


@pytest.mark.parametrize("label", ["red", "RED", "_red "])
def test_a_label_chooses_photos_and_their_category(root, out, label):
    said = []
    assert run(root, out, label=label, say=said.append).explained == 4
    assert {row["class"] for row in rows(out).values()} == {"red"}
    assert {tuple(row["targets"]) for row in rows(out).values()} == {(0,)}
    assert said == ["4 photos of 'red'; explaining 'Red, crimson' (0)"]


def test_a_label_without_a_category_is_an_error(root, out):
    (root / "red").rename(root / "roses")
    reason = r"the model has no category called 'roses'.*--target.*any_class \(--any-class\)"
    with pytest.raises(ValueError, match=reason):
        run(root, out, label="roses")
    assert not out.exists()
    classifier = tiny.bright()
    classifier.categories = None
    with pytest.raises(ValueError, match="called 'roses', since its categories are not known"):
        jobs.run(root, out, classifier, label="roses")


def test_a_label_near_a_category_offers_it(root, out):
    (root / "blue").rename(root / "dark blue")
    with pytest.raises(ValueError, match=r"called 'dark blue' \(nearest: .*blue \(2\)\)"):
        run(root, out, label="dark blue")


def test_a_label_near_a_folder_offers_it(root, out):
    (root / "blue").rename(root / "n02123045")
    with pytest.raises(ValueError, match=r"called 'cat' \(nearest: tabby cat \(n02123045\)\)"):
        run(root, out, label="cat")


def test_any_class_where_a_label_has_none(root, out):
    (root / "red").rename(root / "roses")
    said = []
    run(root, out, label="roses", any_class=True, say=said.append)
    assert {row["predicted"] == row["targets"][0] for row in rows(out).values()} == {True}
    reason = "explaining the best class, since the model has no category of that name"
    assert said == [f"4 photos of 'roses'; {reason}"]
    run(root, out, label="roses", targets=(1,), overwrite=True, say=said.append)
    assert {tuple(row["targets"]) for row in rows(out).values()} == {(1,)}
    assert said[1] == "4 photos of 'roses'; explaining 'green' (1)"
    run(root, out, label="green", any_class=True, overwrite=True)
    assert {tuple(row["targets"]) for row in rows(out).values()} == {(1,)}


@pytest.mark.parametrize("label", ["tabby cat", "Tabby", "n02123045"])
@pytest.mark.parametrize("folder", ["n02123045", "tabby", "tabby, tabby cat"])
def test_imagenets_names_and_ids_of_folders_and_categories(root, out, label, folder):
    (root / "green").rename(root / folder)
    (root / "red").rename(root / "n02510455")
    classifier = tiny.bright()
    classifier.categories = ["n02510455", "n02123045", "crane"]
    explainer, said = Lime(segmenter=Slic(6), num_samples=32), []
    engine = jobs.Local(workers=0)
    jobs.run(root, out, classifier, explainer, engine=engine, label=label, say=said.append)
    assert {row["class"] for row in rows(out).values()} == {folder}
    assert {tuple(row["targets"]) for row in rows(out).values()} == {(1,)}
    assert said == [f"3 photos of {folder!r}; explaining 'n02123045' (1)"]


def test_of_a_labels_meanings_its_folders_counts(root, out):
    (root / "green").rename(root / "giant panda")
    classifier = tiny.bright()
    classifier.categories = ["n02509815", "n02510455", "crane"]  # both are pandas
    engine = jobs.Local(workers=0)
    jobs.run(root, out, classifier, SETTINGS, engine=engine, label="panda")
    assert {tuple(row["targets"]) for row in rows(out).values()} == {(1,)}
    (root / "red").rename(root / "red panda")
    with pytest.raises(ValueError, match=r"several folders in .* \('giant panda', 'red panda'\)"):
        jobs.run(root, out, classifier, SETTINGS, engine=engine, label="panda", overwrite=True)


def test_a_label_means_what_its_folder_means(root, out):
    (root / "blue").rename(root / "ultramarine, blue")
    run(root, out, label="ultramarine")
    assert {tuple(row["targets"]) for row in rows(out).values()} == {(2,)}


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("yellow", r"no folder in .*photos is called 'yellow' \('blue', 'green', 'red'\)"),
        ("a", r"several folders in .*photos are called 'a' \('A', 'a_'\)"),
    ],
)
def test_labels_that_choose_nothing(root, out, label, reason):
    if label == "a":
        photo(0).save((root / "A").mkdir() or root / "A/1.png")
        photo(0).save((root / "a_").mkdir() or root / "a_/1.png")
        label = " a"
        reason = reason.replace("'a'", "' a'").replace("'a_'", "'a_'")
    with pytest.raises(ValueError, match=reason):
        run(root, out, label=label)
    assert not out.exists()


def test_a_label_of_several_categories(root, out):
    classifier = tiny.bright()
    classifier.categories = ["RED", "Red", "blue"]
    reason = r"several categories called 'red'.* index of one of 'RED' \(0\), 'Red' \(1\)"
    with pytest.raises(ValueError, match=reason):
        jobs.run(root, out, classifier, label="red")


def test_folders_without_photos(tmp_path, out):
    with pytest.raises(ValueError, match="there are no photos in"):
        run(tmp_path, out)
    with pytest.raises(FileNotFoundError):
        run(tmp_path / "gone", out)


# Restarts


class Stop(Exception):
    pass


def stopped_after(count):
    def progress(done, total):
        if done >= count:
            raise Stop

    return progress


def test_a_stopped_job_goes_on_and_recomputes_nothing(root, out, tmp_path, monkeypatch):
    run(root, tmp_path / "whole")
    engine = jobs.Local(workers=0, at_once=2)
    with pytest.raises(Stop):
        run(root, out, engine, progress=stopped_after(4))
    before = rows(out)
    assert len(before) == 4
    seen = []
    forward = tiny.Bright.forward
    monkeypatch.setattr(tiny.Bright, "forward", lambda s, x: seen.append(len(x)) or forward(s, x))
    assert run(root, out, engine) == jobs.Summary(6, 0, before=4, failures=0)
    assert sum(seen) == 6 * (1 + 32 + 1)  # the best class, the design, and the photo beside it
    after = rows(out)
    assert {photo_id: after[photo_id] for photo_id in before} == before
    assert_same_rows(after, rows(tmp_path / "whole"))
    seen.clear()
    assert run(root, out, engine) == jobs.Summary(0, 0, before=10, failures=0)
    assert seen == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"explainer": dataclasses.replace(SETTINGS, seed=1)}, "seed: 0, not 1"),
        (
            {"explainer": Lime(segmenter=Grid(2, 2), num_samples=64)},
            r"segmenter: Slic\(.*num_samples: 32, not 64",
        ),
        ({"model": "other"}, "model: bright, not other"),
        ({"targets": (1,)}, "targets: the best, not 1"),
    ],
)
def test_other_settings_are_refused_and_named(root, out, change, named):
    run(root, out)
    before = rows(out)
    with pytest.raises(ValueError, match=rf"made with other settings \(.*{named}"):
        run(root, out, **change)
    assert rows(out) == before
    run(root, out, overwrite=True, **change)
    assert len(rows(out)) == 10


def test_other_weights_are_refused(root, out):
    def job(value):
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 3))
        for parameter in network.parameters():
            torch.nn.init.constant_(parameter, value)
        classifier = models.Classifier(network, tiny.SMALL)
        jobs.run(root, out, classifier, SETTINGS, engine=jobs.Local(workers=0))

    job(0.1)
    job(0.1)
    with pytest.raises(ValueError, match=r"weights: [0-9a-f]{16}, not [0-9a-f]{16}\)"):
        job(0.2)


def test_more_photos_of_another_class_may_follow(root, out):
    run(root, out, label="red", targets=(1,))
    assert run(root, out, label="green", targets=(1,)).before == 0
    assert run(root, out, targets=(1,)) == jobs.Summary(3, 0, before=7, failures=0)


def test_photos_may_move_but_not_change_places(root, out, tmp_path):
    run(root, out)
    other = good(tmp_path / "other", 3)
    with pytest.raises(ValueError, match=r"photos: those in .*photos, not in .*other"):
        run(other, out)
    root.rename(tmp_path / "moved")
    assert run(tmp_path / "moved", out).before == 10
    assert jobs.read(out).photos == (tmp_path / "moved").resolve()


def test_failed_photos_are_tried_again_on_request(root, out):
    good_bytes = (root / "red/000.png").read_bytes()
    (root / "red/000.png").write_bytes(good_bytes[:40])
    assert run(root, out) == jobs.Summary(9, 1, before=0, failures=1)
    (root / "red/000.png").write_bytes(good_bytes)
    assert run(root, out) == jobs.Summary(0, 0, before=10, failures=1)
    assert run(root, out, retry=True) == jobs.Summary(1, 0, before=9, failures=0)
    assert len(rows(out)) == 10


def test_only_the_photos_asked_for_are_tried_again(root, out):
    for colour in ("red", "green"):
        (root / colour / "bad.png").write_text("no image")
    run(root, out, targets=(0,))
    again = run(root, out, targets=(0,), label="green", retry=True)
    assert again == jobs.Summary(0, 1, before=3, failures=1)
    assert jobs.read(out).failures.keys() == {"red/bad.png", "green/bad.png"}


def test_foreign_folders_are_left_alone(root, out):
    out.mkdir()
    (out / "thesis.txt").write_text("two years of work")
    for settings in ({}, {"overwrite": True}):
        with pytest.raises(ValueError, match="holds other things than a job's results"):
            run(root, out, **settings)
    assert os.listdir(out) == ["thesis.txt"]
    with pytest.raises(ValueError, match="does not hold a job's results"):
        jobs.read(out)


def test_overwriting_removes_its_own_files_only(root, out):
    run(root, out, pictures=True)
    (out / "notes.txt").write_text("mine")
    run(root, out, overwrite=True, label="red")
    assert len(rows(out)) == 4
    assert (out / "notes.txt").exists()
    assert not list((out / "_pictures").rglob("*.png"))


def test_results_are_overwritten_only_by_others(root, out):
    run(root, out, pictures=True)
    before = rows(out)

    def absent(work, photos):
        raise ImportError("no engine")
        yield

    for settings in ({"engine": absent}, {"targets": (0, -1)}):
        with pytest.raises((ImportError, ValueError)):
            run(root, out, overwrite=True, model="other", **settings)
        assert rows(out) == before
        assert len(list((out / "_pictures").rglob("*.png"))) == 10
    assert run(root, out) == jobs.Summary(0, 0, before=10, failures=0)


def test_settings_may_change_until_a_photo_was_explained(root, out):
    for path in root.rglob("*.png"):
        path.write_text("no image")
    assert run(root, out).failed == 10
    good(root, 1)
    assert run(root, out, targets=(1,)) == jobs.Summary(1, 9, before=0, failures=9)
    with pytest.raises(ValueError, match="targets: 1, not the best"):
        run(root, out)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="locks of Unix")
def test_two_jobs_at_once_are_refused(out):
    def enter():
        with Store(out):
            pass

    def tried():
        process = multiprocessing.get_context("fork").Process(target=enter)
        process.start()
        process.join()
        return process.exitcode

    with Store(out):
        assert tried() == 1
    assert tried() == 0


def test_the_other_job_is_named(out, monkeypatch):
    def taken(*_):
        raise BlockingIOError

    monkeypatch.setattr("fcntl.lockf", taken)
    with pytest.raises(OSError, match=f"another job is writing to {out}"):
        Store(out).__enter__()


def test_what_a_killed_job_left_is_swept(root, out):
    run(root, out)
    (out / ".0123456789abcdef.part").write_bytes(b"half")
    run(root, out)
    assert not list(out.glob(".*"))


def test_a_damaged_file_is_named(root, out):
    run(root, out)
    (path,) = out.glob("*.parquet")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"{path} is damaged"):
        run(root, out)


def test_a_record_of_the_future(root, out):
    run(root, out)
    record = json.loads((out / "_job.json").read_text())
    (out / "_job.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(ValueError, match="written by a newer version"):
        jobs.read(out)


@pytest.mark.parametrize("text", ["", '{"form', '{"format": 1}', "[]", '{"format": "x"}'])
def test_a_damaged_record(root, out, text):
    run(root, out)
    (out / "_job.json").write_text(text)
    for reader in (lambda: jobs.read(out), lambda: run(root, out)):
        with pytest.raises(ValueError, match=r"_job.json is damaged"):
            reader()
    assert run(root, out, overwrite=True).explained == 10


def test_settings_in_words():
    assert described(torch.zeros(2)) == described(torch.zeros(2)) != described(torch.ones(2))
    assert described(good) == "tests.jobs.folder.good"
    assert described(Grid(2, 3)) == "Grid(rows=2, cols=3)"
    assert described(object()) == "<object object>"
    one, same, other = (functools.partial(good, count=n) for n in (1, 1, 2))
    assert described(one) == described(same) != described(other)
    assert "tests.jobs.folder.good" in described(one)


def test_the_hash_of_weights():
    one, two = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert weights_hash(one) != weights_hash(two)
    two.load_state_dict(one.state_dict())
    assert weights_hash(one) == weights_hash(two)
    assert weights_hash(one) != weights_hash(one.bfloat16())


# Bad files


def damage(root):
    """One bad file of each kind, and the reason in its row."""
    whole = (root / "red/000.png").read_bytes()
    photo(0, (200, 100)).save(root / "whole.jpg")
    jpeg = (root / "whole.jpg").read_bytes()
    (root / "whole.jpg").unlink()
    (root / "folder.png").mkdir()
    photo(0).save(root / "folder.png/inner.png")
    files = {
        b"truncated.jpg": (jpeg[: len(jpeg) // 2], "is damaged or cannot be converted to RGB: im"),
        b"truncated.png": (whole[: len(whole) // 2], "is damaged or cannot be converted"),
        b"empty.jpg": (b"", "is empty (0 bytes)"),
        b"text.jpg": (b"hello", "is not an image that Pillow can read"),
        b"bomb.png": (
            bomb(),
            "bomb.png is too large: 30000×30000 pixels are more",
        ),
        b"small bomb.png": (
            bomb(10_000, 10_000),
            "bomb.png is too large: 10000×10000 pixels",
        ),
        b"new\nline.jpg": (b"hello", "new%0Aline.jpg is not an image"),
        b"\xff\xfe.jpg": (b"hello", "%FF%FE.jpg is not an image"),
    }
    for name, (data, _) in files.items():
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            file.write(data)
    (root / "broken link.jpg").symlink_to("nowhere")
    (root / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(root / "pipe.jpg")
    reasons = {
        "broken%20link.jpg": "there is no image",
        "loop.jpg": "there is no image",
        "pipe.jpg": "is a pipe, not an image: copy its content",
        "folder.png/inner.png": None,
    }
    from urllib.parse import quote_from_bytes

    return reasons | {quote_from_bytes(name): reason for name, (_, reason) in files.items()}


@pytest.mark.skipif(sys.platform == "win32", reason="names and pipes of Unix")
@pytest.mark.parametrize("workers", [0, 2])
def test_bad_files_are_rows(root, out, workers):
    reasons = damage(root)
    summary = run(root, out, jobs.Local(workers=workers, at_once=3))
    assert summary == jobs.Summary(11, len(reasons) - 1, before=0, failures=len(reasons) - 1)
    found = rows(out)
    for photo_id, reason in reasons.items():
        if reason is None:
            assert found[photo_id]["status"] == "ok"
        else:
            assert found[photo_id]["status"] == "error"
            assert reason in found[photo_id]["error"]
            assert str(root) not in found[photo_id]["error"]
    failures = jobs.read(out).failures
    assert failures.keys() == {i for i, reason in reasons.items() if reason}
    with pytest.raises(KeyError, match=r"empty.jpg was not explained: empty.jpg is empty"):
        jobs.read(out)["empty.jpg"]


def test_odd_names_are_explained_too(tmp_path, out):
    folder = os.path.join(os.fsencode(tmp_path), b"a\n\xff")
    os.mkdir(folder)
    photo(0).save(tmp_path / "0.png")
    os.rename(tmp_path / "0.png", os.path.join(folder, b"\xfe '<b>.png"))
    assert run(tmp_path, out, pictures=True).explained == 1
    ((photo_id, row),) = rows(out).items()
    assert photo_id == "a%0A%FF/%FE%20%27%3Cb%3E.png"
    assert row["class"] == "a\\n\\udcff"
    assert read_png(picture_path(out, photo_id)).shape == (3, 20, 30)


def test_a_photo_that_may_not_be_read(root, out, monkeypatch):
    def denied(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", denied)
    assert run(root, out, label="red").failures == 4
    assert {row["error"] for row in rows(out).values()} == {"Permission denied"}


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_photo_without_permission(root, out):
    (root / "red/000.png").chmod(0)
    assert run(root, out, label="red").failures == 1


@pytest.mark.parametrize("kind", ["CMYK", "I;16", "P", "animated", "rotated"])
def test_photos_are_explained_as_people_see_them(tmp_path, out, kind):
    upright = photo(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    if kind == "CMYK":
        upright.convert("CMYK").save(folder / "it.tif")
        expected = upright.convert("CMYK").convert("RGB")
    elif kind == "I;16":
        grey = np.asarray(upright.convert("L"))
        Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "it.png")
        expected = Image.fromarray(grey).convert("RGB")
    elif kind == "P":
        upright.convert("P").save(folder / "it.png")
        expected = upright.convert("P").convert("RGB")
    elif kind == "animated":
        upright.save(folder / "it.webp", save_all=True, append_images=[photo(1)], lossless=True)
        expected = upright
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        upright.transpose(Image.Transpose.ROTATE_90).save(folder / "it.png", exif=exif)
        expected = upright
    run(folder, out)
    (read,) = jobs.read(out).values()
    pixels = tiny.bright().preprocess(expected)
    assert torch.equal(read.segments, SETTINGS.segmenter(pixels).labels)
    assert rows(out)[next(iter(rows(out)))]["width"] == 30


# Bad models, bad disks


def test_a_model_that_fails_on_some(root, out):
    Image.new("RGB", (30, 20)).save(root / "red/black.png")
    settings = {"engine": jobs.Local(workers=0)}
    explainer = Lime(segmenter=Grid(2, 2), num_samples=16, fill=Constant(0.5))
    jobs.run(root, out, tiny.picky(), explainer, **settings)
    assert jobs.read(out).failures == {"red/black.png": "no red"}


@pytest.mark.parametrize(("photos", "tried"), [(20, 15), (3, 3)])
def test_a_model_that_fails_on_all_stops_the_job(root, out, photos, tried):
    (good(root, 20) / "a.png").write_text("no image")
    for path in sorted(root.glob("*/*.png"))[photos:]:
        path.unlink()
    engine = jobs.Local(workers=0)
    reason = f"could explain none of {tried} photos; blue/002.png: KeyError: 'head'"
    with pytest.raises(RuntimeError, match=reason):
        jobs.run(root, out, tiny.broken(), SETTINGS, engine=engine)
    assert rows(out).keys() == {"a.png"}
    assert run(root, out).explained == photos  # other weights


def test_the_first_photos_may_fail(root, out):
    for number in range(7):
        Image.new("RGB", (30, 20)).save(root / f"a{number}.png")
    seen = []
    settings = {"engine": jobs.Local(workers=0), "progress": lambda *now: seen.append(now)}
    explainer = Lime(segmenter=Grid(2, 2), num_samples=16, fill=Constant(0.5))
    summary = jobs.run(root, out, tiny.picky(), explainer, **settings)
    assert summary == jobs.Summary(10, 7, before=0, failures=7)
    assert rows(out)["a0.png"]["width"] == 30
    assert seen[-1] == (17, 17)
    (root / "a0.png").rename(root / "b0.png")  # one that fails alone, after others were explained
    assert jobs.run(root, out, tiny.picky(), explainer, **settings).failed == 1


def test_an_explanation_that_is_not_to_be_trusted(root, out):
    Image.new("RGB", (30, 20)).save(root / "red/black.png")
    settings = {"engine": jobs.Local(workers=0)}
    jobs.run(root, out, tiny.nan(), Lime(segmenter=Grid(2, 2), num_samples=16), **settings)
    failures = jobs.read(out).failures
    assert failures.keys() == {"red/black.png"}
    assert "the model returned NaN or infinite scores" in failures["red/black.png"]
    with pytest.raises(ValueError, match="red/black.png was not explained"):
        explanation_of(rows(out)["red/black.png"])


@pytest.mark.parametrize("asked", [{"targets": (0, 3)}, {"targets": (-1,)}, {"top": 4}])
def test_classes_that_the_model_does_not_have(root, out, asked):
    classifier = models.Classifier(tiny.Bright(), tiny.SMALL)  # its categories are not known
    with pytest.raises(ValueError, match="the model has only 3 classes, but t"):
        jobs.run(root, out, classifier, SETTINGS, engine=jobs.Local(workers=0), **asked)
    assert os.listdir(out) == ["_lock"]


@pytest.mark.parametrize(
    "error", [MemoryError("no"), torch.OutOfMemoryError("no memory"), ImportError("fast-slic")]
)
def test_what_is_no_photos_fault_stops_the_job(root, out, monkeypatch, error):
    def forward(*_):
        raise error

    run(root, out, label="red", targets=(1,))
    monkeypatch.setattr(tiny.Bright, "forward", forward)
    with pytest.raises(type(error)):
        run(root, out, targets=(1,))
    assert len(rows(out)) == 4


def test_a_full_disk_stops_the_job_and_keeps_what_there_is(root, out, monkeypatch):
    engine = jobs.Local(workers=0, at_once=2)
    with pytest.raises(Stop):
        run(root, out, engine, progress=stopped_after(4))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError) as raised:
            run(root, out, engine)
    assert raised.value.errno == errno.ENOSPC
    assert "No space left on device; the 4 rows before are kept" in str(raised.value)
    assert len(rows(out)) == 4
    assert run(root, out, engine) == jobs.Summary(6, 0, before=4, failures=0)


def test_without_pyarrow(root, out, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pip install 'torchlime\[jobs\]'"):
        run(root, out)
    assert not out.exists()


def test_arguments(root, out):
    with pytest.raises(ValueError, match="at_once must be at least 1"):
        jobs.Local(at_once=0)
    with pytest.raises(ValueError, match="workers must be at least 0"):
        jobs.Local(workers=-1)
    with pytest.raises(ValueError, match="top must be at least 1"):
        run(root, out, top=0)


def test_progress(root, out):
    seen = []
    run(root, out, jobs.Local(workers=0, at_once=4), progress=lambda *now: seen.append(now))
    assert seen == [(1, 10), (4, 10), (8, 10), (10, 10)]


@pytest.mark.parametrize(
    ("seconds", "unreadable", "calls"),
    [
        (0.01, (), [1, 7, 8, 4]),
        (1.0, (), [1, 5, 2, 5, 3, 4]),
        (60.0, (), [1] * 20),
        (1.0, (0, 1), [1, 1, 1, 5, 5, 3, 4]),  # these two tell nothing of the others
    ],
)
def test_a_call_takes_some_seconds_at_most(monkeypatch, seconds, unreadable, calls):
    class Work:
        now, calls = 0.0, []

        def decode(self, photo):
            pixels = None if photo in unreadable else np.zeros(1)
            return Decoded(photo, pixels, (1, 1), None)

        def rows(self, decoded):
            self.now += seconds * sum(one.pixels is not None for one in decoded)
            self.calls.append(len(decoded))
            return [one.photo for one in decoded]

    work = Work()
    monkeypatch.setattr("torchlime.jobs.local.time.monotonic", lambda: work.now)
    engine = jobs.Local(workers=0, at_once=8)
    assert [row for rows in engine(work, range(20)) for row in rows] == list(range(20))
    assert work.calls == calls
