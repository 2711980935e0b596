"""Texts: ``torchlime explain-text file.txt …`` turns texts into lines and pages."""

import argparse
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torchlime._files import bytes_of
from torchlime._words import characters, words
from torchlime.cli import estimating
from torchlime.cli.explaining import complain, progress_of
from torchlime.cli.loading import importable_here
from torchlime.cli.meanings import MOST_ROWS, UsageError, choice, count
from torchlime.cli.numbers import line_of, named_numbers_of
from torchlime.cli.options import (
    ROUNDS_OPTIONS,
    Option,
    add_options,
    each_meaning,
    record_of,
    rounds_of,
    words_of,
)
from torchlime.cli.outputs import Folder, distinct
from torchlime.cli.rows import told, written

if TYPE_CHECKING:
    from torchlime.explanation import Explanation
    from torchlime.texts import TextLime

TEXTS_AT_ONCE = 8  # are explained in one call and written before the next
_LARGEST = 2**26  # bytes of a file

SPLITS = {"words": words, "characters": characters}
TEXT_OPTIONS = {
    **estimating.MODEL_OPTIONS,
    "model": dataclasses.replace(
        estimating.MODEL_OPTIONS["model"],
        help="hf:FOLDER of a text classifier; " + estimating.MODEL_OPTIONS["model"].help,
    ),
    "samples": Option(1000, count(2, MOST_ROWS),
        "strings made of each text, the same number for every text: what texts need was not "
        "measured, so that only --until draws by need"),
    **ROUNDS_OPTIONS,
    "split": Option("words", choice(*SPLITS), "what is hidden: words or characters"),
    "hide": Option(None, str,
        "what stands in the place of a hidden word, such as [MASK] (default: nothing)"),
    "strongest": dataclasses.replace(estimating.STRONGEST, help="words that are listed"),
    "out": Option("explanations", str, "the folder of pages, explanations and settings"),
}  # fmt: skip


class Text(NamedTuple):
    """A text to explain, where it comes from, and what its files are called."""

    source: str
    stem: str
    text: str


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """The parser of the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "explain-text", help="explain what a model makes of texts"
    )
    parser.add_argument("files", nargs="*", metavar="file", help="a text in UTF-8")
    add_options(parser, TEXT_OPTIONS)
    parser.add_argument("--lines", action="store_true", help="each line of a file is a text")
    parser.add_argument(
        "--apart", action="store_true", help="each occurrence of a word is hidden by itself"
    )
    parser.add_argument("--trust", action="store_true", help=estimating.TRUST)
    parser.add_argument("--config", help="a TOML file with these options; flags override it")
    parser.add_argument("--json", action="store_true", help="print one JSON document, no text")
    return parser


def explain(arguments: argparse.Namespace) -> dict[str, Any]:
    """Explain the texts; return the document that ``--json`` prints."""
    from torchlime.texts import TextLime, model_of_texts

    typed = words_of(vars(arguments), arguments.config, TEXT_OPTIONS)
    asked = each_meaning(typed, TEXT_OPTIONS)
    estimating.check(asked)
    texts = texts_in(arguments.files, arguments.lines)
    folder = Folder(asked.out, [Path(file) for file in (*arguments.files, asked.model)])
    explainer = TextLime(
        split=SPLITS[asked.split], hide=asked.hide or "", together=not arguments.apart,
        num_samples=asked.samples, rounds=rounds_of(asked), seed=asked.seed,
    )  # fmt: skip
    with importable_here(asked.model):
        model = model_of_texts(estimating.loaded(asked, arguments.trust))
        targets = estimating.targets_of(asked, list(getattr(model, "categories", ())))
        switches = {name: getattr(arguments, name) for name in ("lines", "apart", "trust")}
        settings = {"files": arguments.files, **record_of(typed, asked, TEXT_OPTIONS), **switches}
        record = told(explainer, settings)
        job = _Job(asked, explainer, model, targets, folder, record, arguments.debug)
        results: list[dict[str, Any]] = []
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            for result in job.run(texts[start : start + TEXTS_AT_ONCE]):
                results.append(result)
                if not arguments.json and "error" not in result:
                    print("\n".join(_lines(result)))
    return {**record, "texts": results}


def texts_in(files: Sequence[str], lines: bool) -> list[Text]:
    """The texts in files: one for each file, or for each line that is not blank.

    Raises:
        UsageError: there is no text, or a file cannot be read; it is named.
    """
    if not files:
        raise UsageError("name a file with a text (torchlime explain-text --help tells more)")
    found = []
    for file, stem in zip(files, distinct([Path(file).stem for file in files]), strict=True):
        text = _read(file)
        if not lines:
            found.append(Text(file, stem, text))
            continue
        found += [
            Text(f"{file}, line {number}", f"{stem}-line-{number}", line)
            for number, line in enumerate(text.splitlines(), start=1)
            if line.strip()
        ]
    if not found:
        raise UsageError(f"there is no line with a text in {', '.join(files)}")
    return found


def _read(file: str) -> str:
    try:
        content = bytes_of(file, "text", _LARGEST)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{file} is not a text in UTF-8 (its byte {error.start} is not): save it as UTF-8"
        ) from error


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    for target in result["targets"]:
        yield f"{result['text']}: {line_of(result, target)}"
    yield f"wrote {result['page']}"


@dataclass
class _Job:
    """All that the texts of a call have in common."""

    asked: argparse.Namespace
    explainer: "TextLime"
    model: Any
    targets: list[int]
    folder: Folder
    record: Mapping[str, Any]
    debug: bool

    def run(self, texts: Sequence[Text]) -> list[dict[str, Any]]:
        """A result for each text, in order: its explanation in numbers, or its error."""
        from torchlime._batches import in_batches

        results: dict[str, dict[str, Any]] = {}
        for text, found in in_batches(texts, lambda text: "any", self._explain):
            try:
                if isinstance(found, BaseException):
                    raise found
                results[text.stem] = self._write(text, found.check(sure=False))
            except OSError:  # a full disk is no fault of the text
                raise
            except (Exception, SystemExit) as error:  # the model may raise anything
                sentence = complain(error, text.source, debug=self.debug)
                results[text.stem] = {"text": text.source, "error": sentence}
        return [results[text.stem] for text in texts]

    def _explain(self, texts: Sequence[Text]) -> "Iterator[Explanation]":
        with progress_of(f"{len(texts)} texts") as progress:
            explanation = self.explainer.explain(
                self.model, [text.text for text in texts],
                    estimating.for_each(self.targets, len(texts)),
                top=self.asked.top or 1, progress=progress,
            )  # fmt: skip
        for place in range(len(texts)):
            yield explanation[place]

    def _write(self, text: Text, explanation: "Explanation") -> dict[str, Any]:
        """Write the files of a text; return its explanation in numbers."""
        from torchlime import plot
        from torchlime._atomic import whole_file

        result = {"text": text.source, **named_numbers_of(explanation, self.asked.strongest)}
        result["saved"] = written(explanation, self.record, self.folder, text.stem)
        page = self.folder.file(text.stem, "html")
        plot.save_page(explanation, page, text.source, self.asked.strongest)
        result["page"] = str(page)
        with whole_file(self.folder.file(text.stem, "json")) as file:
            document = {**self.record, **result}
            file.write(json.dumps(document, indent=1, allow_nan=False).encode())
        return result
