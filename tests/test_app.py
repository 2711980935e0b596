"""The page: what it does, without Streamlit; then its whole flow in Streamlit's AppTest."""

import re
import signal
import sys
import threading
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from PIL import Image

import torchlime
from tests import tiny
from tests.app_page import FEW, ROOT, TINY, file_of, last, picture, press, send, texts
from tests.pictures import bomb
from torchlime import cli, methods, models, plot
from torchlime.app import classifiers, explaining, photos, words
from torchlime.app.classifiers import Models, prepared
from torchlime.app.explained import png
from torchlime.app.explaining import explain, explainer_with
from torchlime.models import Decoder, decoding
from torchlime.rounds import GOOD, Once, Until
from torchlime.segments import Reduced, Slic
from torchlime.server import run
from torchlime.server.guard import local_hosts

MANY = f"{__name__}:many"


def upload(content, name="cat.png"):
    """The photo in a file that is sent, as a network sees it that sees all of it."""
    return photos.prepare(tiny.uncropped(), photos.sent(content, name))


def photo(known, color=(0, 255, 0), model=TINY):
    return prepared(known, model, photos.sent(file_of(picture(color)), "cat.png"))


@pytest.fixture
def known():
    return Models({TINY: "DEFAULT", "tests.tiny:broken": "DEFAULT"})


# ---- Uploads ------------------------------------------------------------------------------------


def test_a_turned_photo_is_put_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = upload(file_of(picture(), "JPEG", exif=exif.tobytes(), quality=95), "a.jpg").image
    assert turned.shape == (3, 60, 40)
    red, green, _ = turned[:, 5, 35].tolist()  # the upper left went to the upper right
    assert green > red + 60


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_every_kind_of_picture_becomes_rgb(mode):
    image = picture().convert("L").convert("I").convert(mode) if mode == "I;16" else picture()
    kind = "TIFF" if mode == "CMYK" else "PNG"
    read = upload(file_of(image.convert(mode), kind)).image
    assert read.shape == (3, 40, 60)


def test_transparency_is_laid_on_white():
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert upload(file_of(clear)).image[:, 3, 3].tolist() == [255] * 3


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not an image that Pillow can read"),
        (b"hello", "is not an image that Pillow can read"),
        (file_of(picture())[:500], "damaged"),
        (
            file_of(picture(), "EPS"),
            "is not an image that Pillow can read",
        ),  # Ghostscript would read it
        (bomb(60_000, 60_000), "too large"),
        (bomb(10_000, 10_000), "more than the"),
    ],
    ids=["empty", "text", "cut", "eps", "bomb", "small bomb"],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_photo_is_refused_in_a_sentence_that_names_it(content, why):
    with pytest.raises(ValueError, match=why) as caught:
        upload(content, "my holiday.png")
    assert str(caught.value).startswith("my holiday.png")


def send_all(*contents):
    """What becomes of uploads that are sent at once: a shape, or a sentence."""

    def send(content):
        try:
            return upload(content).image.shape
        except ValueError as error:
            return str(error)

    return together(*(lambda content=content: send(content) for content in contents))


@pytest.mark.skipif(not decoding.POSSIBLE, reason="needs processes of Unix")
def test_few_costly_photos_are_decoded_at_once_and_a_bad_one_frees_its_place(monkeypatch):
    inside, most, read = [], [], Decoder.read

    def counted(decoder, photo, *arguments, **settings):
        inside.append(photo)
        most.append(len(inside))
        try:
            threading.Event().wait(0.01)
            return read(decoder, photo, *arguments, **settings)
        finally:
            inside.pop()

    monkeypatch.setattr(Decoder, "read", counted)
    monkeypatch.setattr(decoding, "AT_ONCE", threading.BoundedSemaphore(2))
    contents = [file_of(picture(), "GIF"), bomb(60_000, 60_000), b"hello"] * 3
    results = send_all(*contents)
    assert max(most) == 2
    assert results[::3] == [(3, 40, 60)] * 3
    assert all("too large" in one for one in results[1::3])
    assert all("not an image that Pillow" in one for one in results[2::3])


@pytest.mark.skipif(not decoding.POSSIBLE, reason="needs processes of Unix")
def test_an_ordinary_photo_waits_for_no_costly_one(monkeypatch):
    begun, over, finish = threading.Semaphore(0), [], threading.Event()

    def endless(*_, **__):
        begun.release()
        finish.wait(10)
        over.append(True)
        raise ValueError("it takes too long")

    monkeypatch.setattr(Decoder, "read", endless)
    monkeypatch.setattr(decoding, "AT_ONCE", threading.BoundedSemaphore(2))
    bombs = threading.Thread(target=send_all, args=[file_of(picture(), "GIF")] * 3)
    bombs.start()
    assert begun.acquire(timeout=60)
    assert begun.acquire(timeout=60)  # and the third waits for its place
    for kind in ("JPEG", "PNG", "WEBP"):
        assert upload(file_of(picture(size=(640, 480)), kind)).image.shape[1:] == (480, 640)
    assert not over
    finish.set()
    bombs.join()
    assert len(over) == 3


def test_nobody_waits_long_for_a_costly_photo(monkeypatch):
    seen, read = [], models.read_photo_within

    def watched(photo, limits, **settings):
        seen.append(limits)
        return read(photo, limits, **settings)

    monkeypatch.setattr(models, "read_photo_within", watched)
    upload(file_of(picture(), "GIF"))
    assert seen[0].seconds <= models.Limits().seconds / 2
    with pytest.raises(ValueError, match="60×40 pixels are more than the 1000"):
        photos.prepare(
            tiny.uncropped(), photos.sent(file_of(picture()), "a.png"), models.Limits(pixels=1000)
        )


# ---- Models and explanations --------------------------------------------------------------------


def test_only_allowed_models_are_loaded(known):
    for name in ("resnet18", "/etc/passwd", "tests.tiny:unnamed"):
        with pytest.raises(ValueError, match="is none of tests.tiny:bright"), known.use(name):
            pass


def test_the_best_classes(known):
    found = classifiers.answers(known, TINY, photo(known))
    classifier = models.load(TINY)
    scores = classifier(photo(known).pixels)[0]
    assert found[0].category == "green"
    assert [answer.index for answer in found] == scores.argsort(descending=True).tolist()
    assert found[0].score == f"{scores.max():.1%}"
    assert len(classifiers.answers(known, TINY, photo(known), count=2)) == 2


def test_a_label_and_the_class_it_means(known):
    labels = ("crimson", "navy_blue", "giraffe")
    assert [classifiers.target_of(known, TINY, label) for label in labels] == [0, 2, None]


def test_choices_are_the_command_lines_options():
    explainer = explainer_with({**FEW, "fill": "#ff0000", "surrogate": "lasso", "seed": 3})
    assert explainer.segmenter == Reduced(Slic(5), 1024)
    assert explainer.fill == torchlime.fills.Constant((1.0, 0.0, 0.0))
    assert isinstance(explainer.surrogate, torchlime.surrogates.Lasso)
    assert (explainer.num_samples, explainer.seed) == (32, 3)


@pytest.mark.parametrize(
    "choices", [{"segments": 1}, {"samples": 10**6}, {"seed": -1}, {"segments": 60, "samples": 32}]
)
def test_choices_out_of_range_are_refused(choices):
    with pytest.raises(ValueError, match="seed|segments|samples"):
        explainer_with(choices)


def test_an_explanation_is_the_engines_own(known):
    seen = []
    ours = explain(
        known, TINY, photo(known), [1, 0], explainer_with(FEW), lambda *rows: seen.append(rows)
    )
    classifier = models.load(TINY)
    pixels = photo(known).pixels
    engine = torchlime.explain(
        classifier, pixels, torch.tensor([[1, 0]]), segmenter=Slic(5), num_samples=32
    )
    assert ours.explanation.coefficients.equal(engine.coefficients)
    assert seen[-1] == (33, 33)  # the photo is beside the design
    assert [answer.category for answer in ours.answers] == ["green", "Red, crimson"]
    assert ours.photo.image.shape[1] == 40  # enough for the 16 pixels that the network sees
    expected = plot.overlay(engine, ours.photo.image, 1, 3, opacity=0.5, box=(14, 4, 46, 36))
    assert ours.overlay(1, 3, 0.5).equal(expected)


def test_a_frame_is_drawn_around_its_segment_alone(known):
    explained = explain(known, TINY, photo(known), [1], explainer_with(FEW))
    overlay = explained.overlay(1, 5, 0.6)
    assert explained.framed(overlay, None).equal(overlay)
    best = next(iter(explained.strongest(0)))
    changed = (explained.framed(overlay, best) != overlay).any(0)
    labels = plot.on_photo(explained.explanation.segments[0], (40, 60), explained.photo.box)
    near = torch.nn.functional.max_pool2d((labels == best)[None].float(), 7, 1, 3)[0].bool()
    assert changed.any()
    assert not changed[~near].any()


def test_the_bars_and_their_words_say_what_is_what(known):
    explained = explain(known, TINY, photo(known), [1, 0], explainer_with(FEW))
    for place, (target, name) in enumerate({1: "green", 0: "Red, crimson"}.items()):
        expected = plot.bars(
            explained.explanation, target, 10, (720, 480), name=name, unit="probability"
        )
        assert explained.bars(place).equal(expected)
        ranked = enumerate(explained.strongest(place).items(), start=1)
        values = explained.explanation.coefficients[0, place]
        for rank, (segment, said) in ranked:
            assert said == f"{rank}: {values[segment].item():+.3g}"


def test_the_words_below_bars_fit_the_surrogate(known):
    ridge, lasso = (
        explain(known, TINY, photo(known), [1], explainer_with({**FEW, "surrogate": name}))
        for name in ("ridge", "lasso")
    )
    assert "lowers the probability by about the length" in lasso.meaning(0)
    assert "95 % intervals" in ridge.meaning(0)
    assert "95 %" not in lasso.meaning(0)  # a Lasso has no standard errors
    assert ridge.legend(0).endswith("The network did not see what is faded.")
    assert "faded" not in words.legend_in_words("green", faded=False)


def test_a_class_is_found_by_its_synonyms_and_its_wordnet_id(known):
    categories = ["n02123045", "Egyptian cat", "crane, bird"]
    known._loaded["cats"] = models.Classifier(tiny.Bright(), tiny.SMALL, categories)
    known.weights["cats"] = None
    assert classifiers.synonyms(known, "cats") == [" · tabby, tabby cat", "", ""]
    assert classifiers.target_of(known, "cats", "tabby_cat") == 0


def test_a_failing_model_is_free_for_the_next(known):
    with pytest.raises(KeyError):
        explain(known, "tests.tiny:broken", photo(known), None, explainer_with(FEW))
    assert (
        explain(known, TINY, photo(known), None, explainer_with(FEW)).answers[0].category == "green"
    )


class Endless(tiny.Bright):
    """A forward pass that ends only where something ends it."""

    passes = 0

    def forward(self, images):
        Endless.passes += 1
        for _ in range(6000 if len(images) > 1 else 1):
            threading.Event().wait(0.01)
            images = images + 0
        return super().forward(images)


def endless():
    return models.Classifier(Endless(), tiny.SMALL, ["red", "green", "blue"])


class Pressed(BaseException):
    """As Streamlit ends the run of a page."""


def test_a_stop_ends_an_explanation_within_a_chunk_and_frees_the_model():
    name, told = f"{__name__}:endless", []
    known = Models({name: "DEFAULT"})
    ready = photo(known, model=name)

    def stop(*rows):
        told.append(rows)
        raise Pressed

    Endless.passes = 0
    with pytest.raises(Pressed):
        explain(known, name, ready, [0], explainer_with(FEW), stop)
    assert told == [(0, 33)]  # the photo is beside its 32 masks
    assert Endless.passes == 1
    assert len(classifiers.answers(known, name, ready)) == 3


class Alone(tiny.Bright):
    """Notices whether somebody else is in."""

    inside = 0
    most = 0
    made = 0

    def forward(self, images):
        Alone.inside += 1
        Alone.most = max(Alone.most, Alone.inside)
        try:
            threading.Event().wait(0.002)
            return super().forward(images)
        finally:
            Alone.inside -= 1


def alone():
    Alone.made += 1
    threading.Event().wait(0.05)
    return models.Classifier(Alone(), tiny.SMALL, ["red", "green", "blue"])


def together(*functions):
    """The results of functions that start in threads of their own at once."""
    results = [None] * len(functions)
    start = threading.Barrier(len(functions))

    def run(place):
        start.wait()
        results[place] = functions[place]()

    threads = [threading.Thread(target=run, args=[place]) for place in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_people_at_once_share_one_model_and_nothing_else():
    Alone.made = Alone.most = 0
    name = f"{__name__}:alone"
    known = Models({name: "DEFAULT"})
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    asked = [
        (photo(known, one, name), explainer_with({**FEW, "seed": seed}))
        for seed, one in enumerate(colours)
    ]
    ours = together(*(lambda one=one: explain(known, name, one[0], None, one[1]) for one in asked))
    assert (Alone.made, Alone.most) == (1, 1)
    for (one, explainer), mine in zip(asked, ours, strict=True):
        again = explain(known, name, one, None, explainer)
        assert mine.explanation.coefficients.equal(again.explanation.coefficients)
        assert mine.photo.image.equal(again.photo.image)
    assert [mine.answers[0].index for mine in ours][:3] == [0, 1, 2]


def test_stability_compares_with_the_next_seed(known):
    explained = explain(known, TINY, photo(known), [1, 0], explainer_with(FEW))
    sentences = explaining.stability(known, explained)
    assert len(sentences) == 2
    second = explain(known, TINY, photo(known), [1, 0], explainer_with({**FEW, "seed": 1}))
    both = [explained.explanation, second.explanation]
    correlation = torchlime.metrics.rank_correlation(both)[0, 0].item()
    assert f"rank correlation {correlation:.2f}" in sentences[0]


def test_words_for_numbers():
    fidelity = words.fidelity_in_words
    assert fidelity(0.634) == "The linear surrogate explains 63 % of the model here: fairly well."
    assert "very well" in fidelity(0.81)
    assert "hint" in fidelity(0.2)
    assert "does not add up" in fidelity(-162.1)
    assert "does not add up" in fidelity(float("nan"))  # a sliding window's
    stability = words.stability_in_words
    assert "stable" in stability(0.95, 4 / 6)
    assert "similar" in stability(0.95, 3 / 7)
    assert "unstable" in stability(0.1, 1.0)
    assert "no order" in stability(float("nan"), 1.0)


# ---- Files --------------------------------------------------------------------------------------

SETTINGS = [
    {},
    {"fill": "blur", "sampler": "bernoulli", "surrogate": "lasso", "seed": 5},
    {"fill": "#10a0ff", "sampler": "fixed-count", "surrogate": "least-squares"},
    {"method": "rise", "fill": "mean", "sampler": "bernoulli", "samples": 200},
    {"method": "leverage_shap", "surrogate": "lasso"},
    {"method": "belief", "fill": "#000000", "samples": 200},
]


@pytest.mark.parametrize("name", explaining.METHODS)
def test_every_method_takes_all_the_choices_of_the_page(known, name):
    choices = {"until": None, "fill": "mean", "sampler": "bernoulli", "surrogate": "lasso"}
    explainer = explainer_with({**FEW, **choices, "samples": 256, "seed": 5, "method": name})
    own = methods.get(name)()
    assert explainer.seed == 5
    assert explainer.fill == own.fill
    for fixed in methods.get(name).fixes:
        assert getattr(explainer, fixed, None) == getattr(own, fixed, None)
    made = explain(known, TINY, photo(known), [1], explainer)
    assert made.overlay(1, 3, 0.5).shape[0] == 3
    without = name in ("rise", "leave_one_out", "occlusion")
    assert ("does not add up" in made.fidelity(0)) == without or made.explanation.fidelity < 0
    red = explainer_with({**FEW, **choices, "samples": 256, "fill": "#ff0000", "method": name})
    assert (red.fill == own.fill) == ("fill" in methods.get(name).fixes)
    sure = explainer_with({**FEW, **choices, "until": 0.25, "method": name})
    stops = "rounds" not in methods.get(name).fixes
    assert (getattr(sure, "rounds", None) == Until(error=0.25)) == stops


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_snippet_makes_the_same_files(known, settings, tmp_path, monkeypatch):
    explained = explain(known, TINY, photo(known), [1, 2], explainer_with({**FEW, **settings}))
    monkeypatch.chdir(tmp_path)
    Path("cat.png").write_bytes(file_of(picture()))
    exec(compile(explained.snippet(3, 0.45), "snippet.py", "exec"), {})
    overlays = [explained.overlay(target, 3, 0.45) for target in (1, 2)]
    assert Path("cat.explanation.png").read_bytes() == png(overlays)
    assert Path("cat.explanation.npz").read_bytes() == explained.archive


def test_a_name_is_only_a_name(known, tmp_path):
    name = "../a'; print('x')\n*.png"
    explained = explain(
        known,
        TINY,
        prepared(known, TINY, photos.sent(file_of(picture()), name)),
        [1],
        explainer_with(FEW),
    )
    assert explained.file_name(".png") == "a-print-x.explanation.png"
    assert f"models.read_photo({name!r})" in explained.snippet(5, 0.6)


# ---- The command --------------------------------------------------------------------------------


def test_the_command_serves_this_machine_alone(monkeypatch, tmp_path):
    pytest.importorskip("streamlit")
    called = []
    monkeypatch.setattr(run, "run", lambda app, link: called.append((app, link.getsockname())))
    monkeypatch.setattr(run, "leave", lambda: None)
    monkeypatch.setattr(sys, "argv", [])
    arguments = ["--model", TINY, "--folder", str(tmp_path), "--allow-host", "Lab.example:80"]
    assert cli.main(["app", *arguments]) == 0
    guard, (address, port) = called[0]
    assert address == "127.0.0.1"
    assert guard.hosts == {*local_hosts(port), "lab.example:80"}
    assert guard.app.script_path == ROOT / "torchlime/app/page.py"
    assert sys.argv == [str(guard.app.script_path), f"--model={TINY}", f"--folder={tmp_path}"]
    import streamlit

    wanted = {"browser.gatherUsageStats": False, "server.maxUploadSize": 20, "server.port": port}
    assert {name: streamlit.get_option(name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--folder", "nowhere"], "there is no folder nowhere"),
        (["--folder", ""], "there is no folder ''"),
        (["--folder", " "], "there is no folder"),
        (["--model", "resnet18=a", "--model", "resnet18=b"], "resnet18 is given twice"),
        (["--model", "resnet18=no.pth"], "there is no file no.pth with the weights of resnet18"),
        (["--port", "x"], "'x' is not a port"),
        (["--port", "70000"], "'70000' is not a port"),
        (["--allow-host", "http://lab"], "'http://lab' is not a name, or name:port, of a host"),
        (["--allow-host", "*"], "is not a name"),
        (["--allow-host", ""], "is not a name"),
        (["--max-seconds", "0"], "--max-seconds: 0 is not a finite number above 0"),
        (["--max-memory", ""], "--max-memory: it needs a value"),
        (["--max-pixels", "x"], "--max-pixels:"),
        (["--model", "resnet35"], "unknown model 'resnet35'; did you mean resnet"),
    ],
)
def test_the_command_refuses_what_cannot_be(arguments, why, capsys):
    pytest.importorskip("streamlit")
    assert cli.main(["app", *arguments]) == 2
    assert why in capsys.readouterr().err


def test_the_command_without_streamlit(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "streamlit", None)
    monkeypatch.setattr(sys, "argv", [])
    assert cli.main(["app"]) == 2
    assert "pip install 'torchlime[app]'" in capsys.readouterr().err


def test_a_server_that_does_not_start(monkeypatch, capsys):
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("streamlit")
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", [])
    assert cli.main(["app"]) == 2
    assert "could not be started" in capsys.readouterr().err


# ---- The page in AppTest ------------------------------------------------------------------------


def test_a_photo_from_upload_to_download(page):
    at = page()
    assert at.selectbox[0].options == [
        TINY, "efficientnet_lite0", "resnet18", "resnet34", "inception_v3",
    ]  # fmt: skip
    assert not at.tabs
    send(at)
    assert any("sees **green**" in text for text in texts(at))
    at.multiselect[0].set_value([0, 1])
    press(at, "Explain")
    assert [h.value.partition(",")[0] for h in at.subheader] == ["green", "Red\\"]
    assert sum("The linear surrogate explains" in text for text in texts(at)) == 2
    assert len(at.get("image")) == 6  # the photo, two overlays, two charts, the segments
    assert [b.label for b in at.get("download_button")] == [
        "Picture (.png)", "Explanation (.npz)", "Python (.py)",
    ]  # fmt: skip
    press(at, "Try the next seed")
    assert sum("Under the next seed" in text for text in texts(at)) == 2


def test_a_photo_takes_the_samples_that_it_needs(page):
    """By default; where it cannot be told how sure the evidence is, the choice is a number."""
    at = send(page())
    sure, samples = at.selectbox(key="photo sure"), at.select_slider(key="photo samples")
    assert (sure.value, sure.disabled, samples.value, samples.disabled) == (
        "good",
        False,
        512,
        True,
    )
    at.slider(key="photo segments").set_value(FEW["segments"])
    next(b for b in at.button if b.label == "Explain").click().run()
    assert last(at).explainer.rounds == GOOD
    used = int(last(at).explanation.samples_used)
    assert any(text.endswith(f"It took {used} samples.") for text in texts(at))
    at.selectbox(key="photo surrogate").set_value("lasso").run()
    sure, samples = at.selectbox(key="photo sure"), at.select_slider(key="photo samples")
    assert (sure.disabled, samples.disabled) == (True, False)
    next(b for b in at.button if b.label == "Explain").click().run()
    assert (last(at).explainer.rounds, last(at).explainer.num_samples) == (Once(), 512)
    at.selectbox(key="photo method").set_value("banzhaf").run()
    assert not at.selectbox(key="photo sure").disabled
    next(b for b in at.button if b.label == "Explain").click().run()
    assert last(at).explainer.rounds == GOOD


def test_drawing_anew_computes_nothing(page, monkeypatch):
    at = press(send(page()), "Explain")
    before = at.get("image")[1].value
    monkeypatch.setattr(torchlime.Lime, "explain", None)
    monkeypatch.setattr(models.Classifier, "forward", None)
    at.slider(key="photo opacity").set_value(0.9).run()
    at.slider(key="photo top").set_value(1).run()
    frames = next(box for box in at.selectbox if box.label == "Frame a segment")
    frames.select_index(0).run()
    assert not at.exception
    assert not at.error
    assert at.get("image")[1].value != before


def test_another_photo_hides_the_explanation_before(page):
    at = press(send(page()), "Explain")
    send(at, file_of(picture((255, 0, 0))), "red.png")
    assert not at.subheader
    assert any(r"sees **Red\, crimson**" in text for text in texts(at))


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"hello", "is not an image that Pillow can read"), (bomb(60_000, 60_000), "too large")],
)
def test_a_bad_upload_is_answered_with_a_sentence(page, content, why):
    at = send(page(), content, "![a](b).png")
    assert not at.exception
    assert why in at.error[0].value
    assert at.error[0].value.startswith("`![a](b).png` ")
    assert any("sees" in text for text in texts(send(at)))  # and then another one


def test_the_flags_that_a_sentence_names_are_there(page, monkeypatch, tmp_path):
    at = send(page("--max-pixels=1000"))
    assert "more than the 1000 that are allowed" in at.error[0].value.replace("\\", "")
    called = []
    monkeypatch.setattr(run, "run", lambda app, link: called.append(sys.argv[1:]))
    monkeypatch.setattr(run, "leave", lambda: None)
    arguments = ["--max-seconds", "3", "--max-pixels", "1000", "--max-memory", "64"]
    assert cli.main(["app", *arguments]) == 0
    assert called == [["--max-seconds=3", "--max-pixels=1000", "--max-memory=64"]]
    for flag in re.findall(r"--[a-z-]+", at.error[0].value.replace("\\", "")):
        assert flag in arguments


def test_the_best_classes_are_bars_and_any_class_can_be_chosen(page):
    at = send(page())
    bars = at.get("progress")
    assert [bar.value for bar in bars] == sorted((bar.value for bar in bars), reverse=True)
    assert len(bars) == len(at.multiselect[0].options) == 3
    at = send(page(model=MANY))
    assert len(at.get("progress")) == 5
    assert len(at.multiselect[0].options) == 40
    at.multiselect[0].set_value([39])
    press(at, "Explain")
    explained = last(at)
    scores = models.load(MANY)(explained.photo.pixels)[0]
    assert explained.explanation.targets.tolist() == [[scores.argmin().item()]]


class Many(tiny.Bright):
    """Forty classes."""

    def forward(self, images):
        scores = super().forward(images)
        return scores[:, :1] * torch.linspace(0, 1, 40) + scores[:, 1:2]


def many():
    return models.Classifier(Many(), tiny.SMALL)


def test_scores_that_are_no_probabilities_have_no_bars():
    shares = [
        classifiers.answer_of(models.Classifier(Many(), output=output), 3, 0.75).share
        for output in ("softmax", "sigmoid", "logit", "none")
    ]
    assert shares == [0.75, 0.75, None, None]


def test_an_explanation_made_with_other_choices_says_so(page):
    at = press(send(page()), "Explain")
    assert not at.info
    at.slider(key="photo opacity").set_value(0.3).run()  # of the picture alone
    assert not at.info
    at.slider(key="photo segments").set_value(7).run()
    assert "made with other choices" in at.info[0].value
    at.slider(key="photo segments").set_value(5).run()
    assert not at.info
    at.multiselect[0].set_value([1]).run()
    assert "made with other choices" in at.info[0].value
    at.button[0].click().run()
    assert not at.info


def test_the_colour_is_asked_for_where_one_is_chosen(page):
    at = send(page())
    assert not at.color_picker
    at.selectbox(key="photo fill").set_value("colour").run()
    at.color_picker[0].set_value("#ff0000")
    press(at, "Explain")
    explained = last(at)
    assert explained.explainer.fill == torchlime.fills.Constant((1.0, 0.0, 0.0))


def test_a_method_stands_in_the_place_of_sampler_and_surrogate(page):
    at = send(page())
    assert not at.selectbox(key="photo sampler").disabled
    at.selectbox(key="photo method").set_value("kernel_shap").run()
    assert at.selectbox(key="photo sampler").disabled
    assert at.selectbox(key="photo surrogate").disabled
    assert any("Lundberg" in caption.value for caption in at.caption)
    press(at, "Explain")
    assert last(at).explainer.sampler == methods.kernel_shap().sampler
    at.selectbox(key="photo method").set_value(None).run()
    assert "made with other choices" in at.info[0].value
    press(at, "Explain")
    assert last(at).explainer.sampler == torchlime.Lime().sampler


@pytest.mark.parametrize("name", explaining.METHODS)
def test_the_page_offers_only_what_counts(page, name):
    """Every control that is offered changes the explainer, also the number of samples."""
    at = send(page())
    at.selectbox(key="photo method").set_value(name).run()
    sure, samples = at.selectbox(key="photo sure"), at.select_slider(key="photo samples")
    fixed = explaining.fixed_in(methods.get(name))
    assert at.slider(key="photo segments").disabled == ("segments" in fixed)
    assert at.selectbox(key="photo fill").disabled == ("fill" in fixed)
    if not sure.disabled and any("fixed" in option for option in sure.options):
        sure.set_value("fixed").run()
        samples = at.select_slider(key="photo samples")
    told = any("has its own number of samples" in caption.value for caption in at.caption)
    assert told == (samples.disabled and sure.disabled)
    made = [explainer_with({"method": name, "samples": n, "until": None}) for n in (64, 256)]
    assert samples.disabled == (made[0] == made[1])


def test_a_method_without_a_fixed_number_takes_back_that_choice(page):
    at = send(page())
    at.selectbox(key="photo sure").set_value("fixed").run()
    at.selectbox(key="photo method").set_value("bayeslime").run()
    assert not at.exception
    assert at.selectbox(key="photo sure").value == "good"


def test_no_class_or_too_few_samples(page):
    at = send(page())
    at.multiselect[0].set_value([])
    assert "choose a class" in press(at, "Explain").error[0].value
    at.multiselect[0].set_value([0])
    at.slider(key="photo segments").set_value(200)
    at.selectbox(key="photo sure").set_value("fixed").run()
    at.select_slider(key="photo samples").set_value(32)
    at.button[0].click().run()
    assert "too few" in at.error[0].value


@pytest.mark.parametrize("model", ["tests.tiny:fails", "tests.tiny:leaves", "tests.tiny:broken"])
def test_a_failing_model_is_a_sentence(page, model):
    at = send(page(model=model))
    assert not at.exception
    assert len(at.error) == 1


def test_a_model_whose_weights_cannot_be_had(page, monkeypatch):
    def offline(*_, **__):
        raise URLError(OSError(113, "no route to host"))

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nowhere")
    monkeypatch.setattr("os.makedirs", lambda *_, **__: None)
    at = send(page())
    at.selectbox[0].select("resnet18").run()
    said = at.error[0].value.replace("\\", "")
    assert "not on this machine and could not be downloaded (no route to host)" in said
    assert "Choose another model above." in said
    assert said.endswith("torchlime app `--model` `resnet18=FILE`")
    assert "weights=" not in said


def test_a_weights_file_that_is_gone_or_wrong(tmp_path):
    file = tmp_path / "mine.pth"
    known = Models({"resnet18": str(file)})
    with pytest.raises(ValueError, match=r"should be in .*mine.pth, but there is no such file"):
        known.loaded("resnet18")
    torch.save({"fc.bias": torch.zeros(1000)}, file)
    with pytest.raises(ValueError, match=r"could not be read from .*mine.pth: the checkpoint does"):
        known.loaded("resnet18")


def test_the_sample(page):
    pytest.importorskip("skimage", reason="its cat")
    at = page()
    at.checkbox[0].check().run()
    press(at, "Explain")
    assert len(at.subheader) == 1


def test_classes_of_one_name_are_told_apart(page):
    at = send(page(model="tests.tiny:twins"))
    assert at.multiselect[0].options == ["crane, 33.3% (1)", "crane, 33.3% (2)", "tench, 33.3%"]
    at.multiselect[0].set_value([0, 1])
    press(at, "Explain")
    explained = last(at)
    assert explained.explanation.targets.tolist() == [[0, 1]]


def test_a_loaded_model_does_not_wait_for_one_that_loads(known, monkeypatch):
    with known.use(TINY):
        pass
    begun, finish = threading.Event(), threading.Event()
    load = models.load

    def slow(*arguments):
        begun.set()
        assert finish.wait(60)
        return load(*arguments)

    monkeypatch.setattr(models, "load", slow)

    def use_another():
        with known.use("tests.tiny:broken"):
            pass

    other = threading.Thread(target=use_another)
    other.start()
    assert begun.wait(60)
    with known.use(TINY):  # would wait for ever
        finish.set()
    other.join()


def test_two_people_on_the_page_see_their_own(page):
    here, there = page(), page()
    send(here)
    send(there, file_of(picture((0, 0, 255))), "blue.png")
    press(here, "Explain")
    press(there, "Explain")
    here.slider(key="photo opacity").set_value(0.3).run()
    assert here.subheader[0].value.startswith("green")
    assert there.subheader[0].value.startswith("navy blue")


def test_the_logic_needs_no_streamlit():
    shown = {"page.py", "asking.py", "browsing.py", "panels.py"}
    for path in (ROOT / "torchlime/app").glob("*.py"):
        pattern = r"^(?:import|from) ([a-z_.]+)(?: import (.+))?"
        found = re.findall(pattern, path.read_text(), re.M)
        named = [f"{module} {names}" for module, names in found]
        assert any(one.startswith("streamlit") for one in named) == (path.name in shown)
        if path.name not in shown:
            assert not [one for one in named if "panels" in one or "asking" in one], path.name
