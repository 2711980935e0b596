"""The command line: ``torchlime explain [photo]``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torchlime

if TYPE_CHECKING:
    from torch import Tensor

    from torchlime.explanation import Explanation

TOP_CLASSES = 3
TOP_SEGMENTS = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the exit code is 0, 1 where the photo failed, 2 for any other error."""
    arguments = _parser().parse_args(argv)
    try:
        return _explain(arguments.photo, arguments.out)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        if arguments.debug:
            raise
        print(f"torchlime: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="torchlime", description=torchlime.__doc__)
    parser.add_argument("--version", action="version", version=torchlime.__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    explain = commands.add_parser(
        "explain", help="explain what EfficientNet-Lite0 sees in a photo, and draw it"
    )
    explain.add_argument("photo", nargs="?", type=Path, help="default: scikit-image's cat")
    explain.add_argument("--out", type=Path, default=Path("explanation.png"), help="the picture")
    explain.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _explain(photo: Path | None, out: Path) -> int:
    from torchlime import models, plot

    if out.is_dir() or not out.parent.is_dir():
        raise OSError(f"cannot write {out}: not a file name in an existing folder")
    classifier = models.load("efficientnet_lite0")
    try:
        image = classifier.preprocess(photo or _cat())
    except (OSError, ValueError) as error:
        print(f"torchlime: {error}", file=sys.stderr)
        return 1
    explanation = torchlime.explain(classifier, image, top=TOP_CLASSES).check()
    names = classifier.categories or []
    print(_report(explanation, names))
    plot.save_png(_picture(explanation, image), out)
    print(f"\nwrote {out}: the photo, the evidence for (blue) and against (orange), the segments")
    return 0


def _cat() -> Path:
    """scikit-image's photo of a cat, which its package ships."""
    try:
        import skimage.data
    except ImportError as error:
        raise ImportError(
            "the default photo comes with scikit-image: pip install 'torchlime[demo]', "
            "or name a photo of your own"
        ) from error
    return Path(skimage.data.__file__).with_name("chelsea.png")


def _report(explanation: "Explanation", names: Sequence[str]) -> str:
    """The classes with their scores, then the strongest segments of the first."""
    classes = zip(explanation.targets[0].tolist(), explanation.scores[0].tolist(), strict=True)
    lines = [f"{score:7.1%}  {names[target]}" for target, score in classes]
    lines.append(
        f"\nwhat speaks for and against {names[int(explanation.targets[0, 0])]!r} "
        f"({int(explanation.segment_count[0])} segments, "
        f"fidelity {explanation.fidelity[0, 0].item():.2f}):"
    )
    ids, values = (top[0, 0].tolist() for top in explanation.top(TOP_SEGMENTS))
    for rank, (segment, value) in enumerate(zip(ids, values, strict=True), start=1):
        if segment >= 0:
            error = explanation.standard_errors[0, 0, segment].item()
            lines.append(f"{rank:3}. segment {segment:3}  {value:+.4f} ± {1.96 * error:.4f}")
    return "\n".join(lines)


def _picture(explanation: "Explanation", image: "Tensor") -> "Tensor":
    """The photo, the strongest evidence on it, all evidence, and its segments, side by side."""
    from torchlime import plot

    return plot.side_by_side(
        plot.photo(image),
        plot.overlay(explanation, image, top=TOP_SEGMENTS),
        plot.heatmap_picture(explanation, image),
        plot.boundaries(explanation.segments[0], image),
    )
