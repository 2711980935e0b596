"""The API reference: HTML from the docstrings, into build/reference (or the folder named).

    python -W error .github/reference.py [FOLDER]

pdoc makes it. The docstrings write ``:func:`load``` for a link, as Sphinx does; pdoc links what
stands in backticks, so the roles are dropped before it reads them.
"""

import re
import sys
import warnings
from pathlib import Path

import pdoc
from pdoc import docstrings, render

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = ("app", "cli", "server", "examples")  # programs, not an API
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?\.?([^`]+)`")
_google = docstrings.google


def without_roles(docstring: str) -> str:
    """The docstring with `name` for each :role:`name`, and `code` for ``code``."""
    return _google(_ROLE.sub(r"`\1`", docstring).replace("``", "`"))


def main(folder: str = "build/reference") -> None:
    """Write the pages."""
    # Fields that one TypedDict has from another stand in neither's own source.
    warnings.filterwarnings("ignore", message="Cannot determine where .* is taken from")
    docstrings.google = without_roles
    render.configure(docformat="google", show_source=False, footer_text="torchlime")
    pdoc.pdoc("torchlime", *modules(), output_directory=ROOT / folder)


def modules() -> list[str]:
    """The public modules that ``torchlime.__all__`` does not name; pdoc would leave them out."""
    import torchlime

    found = sorted(path.stem for path in (ROOT / "torchlime").iterdir() if _is_public(path))
    return [f"torchlime.{name}" for name in found if name not in {*torchlime.__all__, *LEFT_OUT}]


def _is_public(path: Path) -> bool:
    is_module = path.suffix == ".py" or (path / "__init__.py").exists()
    return is_module and not path.stem.startswith("_")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(*sys.argv[1:])
