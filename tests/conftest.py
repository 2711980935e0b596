import sys

import pytest
import torch


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Every test may compile: without a reset they would share one limit on recompilations.

    A reset empties the cache of fake tensors too, so it comes only after what was compiled.
    """
    yield
    compiler = sys.modules.get("torch._dynamo.convert_frame")
    if compiler is not None and compiler.FRAME_COUNTER:
        torch._dynamo.reset()


@pytest.fixture
def page(monkeypatch, tmp_path):
    """A function that opens the page as somebody new."""
    testing = pytest.importorskip("streamlit.testing.v1", reason="pip install 'torchlime[app]'")
    from tests.app_page import ROOT, TINY, picture

    for label, colours in {"green": ["00ff00", "20ff10"], "rotten": ["ff0000"]}.items():
        (tmp_path / label).mkdir()
        for i, colour in enumerate(colours):
            picture(f"#{colour}").save(tmp_path / label / f"{i}.png")
    script = str(ROOT / "torchlime/app/page.py")

    def open_page(*arguments, model=None):
        monkeypatch.setattr(sys, "argv", [script, f"--model={model or TINY}", *arguments])
        return testing.AppTest.from_file(script, default_timeout=60).run()

    open_page.folder = f"--folder={tmp_path}"
    return open_page
