"""Jobs: explain every photo of a folder, or every row of a table; a job can be restarted.

    classifier = models.load("resnet34")
    jobs.run("photos", "cats", classifier, model="resnet34", label="tabby cat")
    for photo, explanation in jobs.read("cats").items():
        ...

:func:`run_table` does the same with the rows of a table.

A photo's explanation depends only on its pixels, the settings, the seed and the photo's id. The
photo's own seed is a hash of (seed, id). Rows are a parquet dataset;
:func:`torchlime.jobs.rows.schema` says what is in them.
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path

from torchlime._checks import check_count
from torchlime.folders import PhotoFile, class_names, id_of, meant_by, photos_in
from torchlime.jobs.earlier import as_begun
from torchlime.jobs.explanations import Explanations
from torchlime.jobs.identity import identity
from torchlime.jobs.local import Local
from torchlime.jobs.pictures import encoded, overlays
from torchlime.jobs.rows import Row, explanation_of
from torchlime.jobs.store import Store, picture_path
from torchlime.jobs.tables import run_table
from torchlime.jobs.told import Summary, Tally, by_rule
from torchlime.jobs.worker import Work
from torchlime.lime import Lime
from torchlime.models import Classifier, Limits, Marks, refuse_bombs
from torchlime.models.categories import alike, listed, offers
from torchlime.rise import Rise
from torchlime.rounds import GOOD

__all__ = ["Local", "Summary", "read", "run", "run_table"]

_TRIED = 8  # photos that the model may fail on before the job stops

Engine = Callable[[Work, Sequence[PhotoFile]], Generator[list[Row]]]


def run(
    photos: str | os.PathLike[str],
    out: str | os.PathLike[str],
    classifier: Classifier,
    explainer: Lime | Rise | None = None,
    *,
    model: str = "a model of the caller's",
    label: str | None = None,
    any_class: bool = False,
    targets: Sequence[int] = (),
    top: int = 1,
    marks: Marks | None = None,
    engine: Engine | None = None,
    pictures: bool = False,
    overwrite: bool = False,
    retry: bool = False,
    repair: bool = False,
    limits: Limits | None = None,
    progress: Callable[[int, int], object] | None = None,
    say: Callable[[str], object] | None = None,
) -> Summary:
    """Explain the photos in a folder that have no row in ``out`` yet.

    Args:
        photos: root/<class>/… or a flat folder; see :func:`torchlime.folders.photos_in`.
        out: the folder of the rows.
        classifier: as :func:`torchlime.models.load` gives it.
        explainer: the settings, a Lime or a Rise. None = ``Lime(rounds=rounds.GOOD)``: each photo
            takes the samples that it needs. A job in ``out`` that was begun with ``Lime()``, as
            in earlier versions, then continues with ``Lime()``.
        model: what the rows call the classifier.
        label: take only photos of the class with this name, or with another name of the model's
            category; that category is explained. See :meth:`Classifier.called`.
        any_class: explain the best class where the model has no category of the label's name.
        targets: the classes to explain instead.
        top: how many of the best classes to explain, where neither ``label`` nor ``targets`` says
            which.
        marks: the region or box of each photo, for segmentation networks and detectors; the
            classes are then explained there. Photos that a table of boxes does not name are left
            out.
        engine: makes the rows of the photos, such as :class:`Local` (the default).
        pictures: draw the overlays too, also for the rows of earlier runs.
        overwrite: begin again, whatever is there; the old rows are kept until the run is complete.
            If such a run was stopped, run with the same settings and without ``overwrite`` to
            continue it.
        retry: try again the photos whose row is an error.
        repair: set damaged files aside, and do their photos again.
        limits: of decoding a photo, in time and memory; None = ``Limits()``.
        progress: called with (photos done in this run, photos of this run).
        say: called with sentences for people, such as which photos and classes were chosen.

    Returns:
        How many photos were explained, and how many failed.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: there are no such photos; ``out`` was made with other settings (the message
            names them), holds other things, or has a damaged file; a target is not a class of the
            model; or the label means no category, or several.
        OSError: a folder cannot be read or written, or the disk is full; what was done is kept.
        RuntimeError: the model fails on the first eight photos that it gets, or on all. No row is
            written for these, so that you can correct the model or the settings.
        torch.OutOfMemoryError: not even one image fits into a forward pass.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from torch import nn
        >>> from torchlime.models import Geometry
        >>> from torchlime.segments import Grid
        >>> root = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (8, 8), "red").save(root / "red.png")
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
        >>> classifier = Classifier(network, Geometry(resize=None, crop=None))
        >>> explainer = Lime(segmenter=Grid(2, 2), num_samples=16)
        >>> run(root, root / "out", classifier, explainer, engine=Local(workers=0))
        Summary(explained=1, failed=0, before=0, failures=0)
        >>> read(root / "out")["red.png"].coefficients.shape
        torch.Size([1, 1, 4])
    """
    check_count(top, "top")
    engine = engine or Local()
    if explainer is None:
        explainer = Lime(rounds=GOOD)
        explainer = explainer if overwrite else as_begun(out, explainer, say)
    chosen = _chosen(Path(photos), Path(out), label, classifier)
    if marks is not None and isinstance(marks.boxes, Mapping):
        chosen = [photo for photo in chosen if photo.id in marks.boxes]
        if not chosen:
            raise ValueError(
                f"the table of boxes names none of the photos in {photos}; its column photo holds "
                "paths in that folder, such as cats/1.jpg"
            )
    targets = tuple(targets) or _category(classifier, label, chosen, any_class)
    if say is not None:
        say(_choice(chosen, label, targets, top, classifier) + (f", {marks}" if marks else ""))
    with Store(out) as store, warnings.catch_warnings():
        refuse_bombs()
        settings = identity(classifier, model, targets, top, explainer, marks)
        again = {photo.id for photo in chosen} if retry else ()
        store.begin(settings, photos, overwrite=overwrite, retry=again, repair=repair)
        if say is not None:
            for path in store.aside:
                say(f"{path.name} was damaged and was set aside; its photos are explained again")
        missing = [photo for photo in chosen if photo.id not in store.status]
        work = Work(
            classifier, model, settings["weights"], explainer, targets, top, pictures,
            limits or Limits(), marks,
        )  # fmt: skip
        counts, tally = {"ok": 0, "error": 0}, Tally()
        with contextlib.closing(engine(work, missing)) as batches:
            known = "ok" in store.status.values()
            for rows in _once_one_is_explained(batches, known) if missing else ():
                for row in store.add(rows):
                    counts[row["status"]] += 1
                    tally.add(row)
                if progress is not None:
                    progress(sum(counts.values()), len(missing))
        complete = store.complete()
        if not complete and say is not None:
            say("no photo could be explained again, so the rows from before are kept")
        if say is not None and by_rule(explainer) and tally.used:
            say(f"the photos of this run took {tally}")
        if pictures and complete:
            _draw_missing(store, chosen, work.limits)
        failures = sum(store.status[photo.id] == "error" for photo in chosen)
    return Summary(counts["ok"], counts["error"], len(chosen) - len(missing), failures)


def read(out: str | os.PathLike[str]) -> Explanations:
    """A job's explanations by the ids of their photos; each is read when it is asked for.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: ``out`` is not the folder of a job, or a file in it is damaged.
    """
    return Explanations(out)


def _chosen(root: Path, out: Path, label: str | None, classifier: Classifier) -> list[PhotoFile]:
    """The photos without the job's own pictures; of one class, if ``label`` asks for it."""
    found = photos_in(root)
    if out.resolve().is_relative_to(root.resolve()):
        own = id_of(out.resolve().relative_to(root.resolve())) + "/"
        found = [photo for photo in found if not photo.id.startswith(own)]
    if not found:
        raise ValueError(f"there are no photos in {root}")
    if label is None:
        return found
    known = class_names(found)
    names = [label] if label in known else [known[i] for i in meant_by(label, known)]
    if not names:  # such as tabby cat in n02123045/
        names = [known[i] for i in alike(label, known, classifier.categories or [])]
    if len(names) != 1:
        told = f"several folders in {root} are" if names else f"no folder in {root} is"
        some = ", ".join(repr(name) for name in (names or known)[:10])
        near = "" if names else offers(label, known, known)
        raise ValueError(f"{told} called {label!r}" + (near or f" ({some})" * bool(some)))
    return [photo for photo in found if photo.class_name == names[0]]


def _once_one_is_explained(batches: Iterable[list[Row]], explained: bool) -> Generator[list[Row]]:
    """The rows. Those of photos that can be read but not explained wait until one is explained.

    Raises:
        RuntimeError: none of them can be explained, so the model is at fault.
    """
    waiting: list[Row] = []
    for rows in batches:
        explained = explained or any(row["status"] == "ok" for row in rows)
        if explained:
            ready, waiting = waiting + rows, []
        else:
            ready = [row for row in rows if row.get("width") is None]
            waiting += [row for row in rows if row.get("width") is not None]
        if ready:
            yield ready
        if len(waiting) >= _TRIED:
            break
    if waiting:
        raise RuntimeError(
            f"the model could explain none of {len(waiting)} photos; {waiting[0]['id']}: "
            f"{waiting[0]['error']}"
        )


def _draw_missing(store: Store, photos: Sequence[PhotoFile], limits: Limits) -> None:
    """The pictures of rows that have none, from these rows."""
    found = read(store.folder)
    for photo in photos:
        if photo.id in found and not picture_path(store.folder, photo.id).is_file():
            row = found.row(photo.id)
            picture = overlays(explanation_of(row), photo.path, row["box"], limits=limits)
            store.draw(photo.id, encoded(picture, "PNG"))


def _category(
    classifier: Classifier, label: str | None, photos: Sequence[PhotoFile], any_class: bool
) -> tuple[int, ...]:
    """The model's category that a label, or the name of the folder that it chose, means."""
    if label is None:
        return ()
    of_label, of_folder = (classifier.called(n) for n in (label, photos[0].class_name or ""))
    both = [category for category in of_label if category in of_folder]
    found = both or of_label or of_folder
    if len(found) == 1 or (any_class and not found):
        return tuple(found)
    known = classifier.categories or []
    if found:
        raise ValueError(
            f"the model has several categories called {label!r}: as target (--target), give the "
            f"index of one of {listed(found, known)}"
        )
    why = offers(label, known) if known else ", since its categories are not known"
    raise ValueError(
        f"the model has no category called {label!r}{why}: give a target (--target), or explain "
        "the best class of each photo with any_class (--any-class)"
    )


def _choice(
    photos: Sequence[PhotoFile],
    label: str | None,
    targets: Sequence[int],
    top: int,
    classifier: Classifier,
) -> str:
    count = f"{len(photos)} photo{'s' * (len(photos) > 1)}"
    of = "" if label is None else f" of {photos[0].class_name!r}"
    best = "the best class" if top == 1 else f"the {top} best classes"
    named = ", ".join(f"{classifier.category(target)!r} ({target})" for target in targets)
    why = "" if label is None or targets else ", since the model has no category of that name"
    return f"{count}{of}; explaining {named or best}{why}"
