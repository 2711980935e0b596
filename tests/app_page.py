"""The page in Streamlit's AppTest, and small photos for it; the fixture is in conftest.py."""

import io
from pathlib import Path

import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
TINY = "tests.tiny:bright"
FEW = {"segments": 5, "samples": 32}


def picture(color=(0, 255, 0), size=(60, 40), mode="RGB"):
    """Of noise, so that its segments differ from their mean, and a coloured upper left."""
    noise = torch.randint(60, 120, (size[1], size[0], 3), generator=torch.manual_seed(0))
    image = Image.fromarray(noise.byte().numpy())
    image.paste(Image.blend(Image.new("RGB", size, color), image, 0.3).crop((0, 0, 30, 20)))
    return image.convert(mode)


def file_of(image, kind="PNG", **settings):
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def send(at, content=None, name="cat.png"):
    """Upload a file."""
    content = file_of(picture()) if content is None else content
    return at.file_uploader[0].set_value((name, content, "image/png")).run()


def press(at, label, slot="photo"):
    """Press a button, with small settings."""
    if at.get("slider"):
        at.slider(key=f"{slot} segments").set_value(FEW["segments"])
        at.selectbox(key=f"{slot} sure").set_value("fixed").run()
        at.select_slider(key=f"{slot} samples").set_value(FEW["samples"])
    return next(b for b in at.button if b.label == label).click().run()


def texts(at):
    assert not at.exception
    return [element.value for element in (*at.subheader, *at.markdown, *at.info)]


def last(at, slot="photo"):
    """The explanation that was made last."""
    return list(at.session_state[f"{slot} explained"].values())[-1][1]
