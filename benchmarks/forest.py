"""The picture of the study of methods: differences to LIME, with their intervals over photos."""

from pathlib import Path
from typing import Any

from benchmarks.bootstrap import Mean
from benchmarks.methods import budgets_in, compared, methods_of, select
from benchmarks.recipes import LIME
from benchmarks.settings import Row

PANELS = ("error", "spearman", "fidelity", "deletion", "insertion")
TITLES = {
    "error": "error to its own limit,\nover that of LIME", "spearman": "stability over seeds, ρ",
    "fidelity": "fidelity, R²", "deletion": "deletion, less is better",
    "insertion": "insertion, more is better",
}  # fmt: skip
LESS = ("error", "deletion")  # of which less is better
GREY, GOOD, BAD = "#9a9a9a", "#1f6fb4", "#c8501e"


def draw(rows: list[Row], path: Path) -> None:
    """Each method's difference to LIME at equal forward passes, with its interval over photos."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator, NullFormatter

    of = select(rows, part="game", games="photos", output="probability")
    exact = {row["method"] for row in of if row["error"] == 0}  # the same for every seed
    shown = [name for name in methods_of(of) if name not in (LIME, *exact)]
    pyplot.rcParams["svg.hashsalt"] = "methods"
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(14, 0.42 * len(shown) + 1.6))
    for axis, what in zip(axes, PANELS, strict=True):
        axis.axvline(1 if what == "error" else 0, color="black", linewidth=0.8)
        for place, name in enumerate(shown):
            for step, budget in zip((-0.16, 0.16), budgets_in(of), strict=True):
                over = compared(select(of, samples=budget), name, what)
                if over is not None:
                    _bar(axis, over, place + step, what, budget == budgets_in(of)[0])
        axis.set_title(TITLES[what], fontsize=10)
        axis.set_ylim(len(shown) - 0.5, -0.5)
        axis.set_yticks(range(len(shown)), shown if what == PANELS[0] else [""] * len(shown))
        axis.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.xaxis.set_major_locator(MaxNLocator(4))
    axes[0].set_xscale("log")
    axes[0].xaxis.set_minor_formatter(NullFormatter())
    axes[0].set_xticks([0.5, 1, 2], ["0.5", "1", "2"])
    few, many = budgets_in(of)
    figure.supxlabel(
        f"difference to LIME at equal forward passes (○ {few}, ● {many}), 95 % over"
        f" {len({row['photo'] for row in of})} photos; blue is better, red worse, grey noise",
        fontsize=10,
    )
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _bar(axis: Any, over: Mean, place: float, what: str, hollow: bool) -> None:
    zero = 1 if what == "error" else 0
    better = (over.mean < zero) == (what in LESS)
    colour = GREY if over.low <= zero <= over.high else GOOD if better else BAD
    axis.plot([over.low, over.high], [place, place], color=colour, linewidth=1.8)
    face = "white" if hollow else colour
    axis.plot(over.mean, place, "o", color=colour, markerfacecolor=face, markersize=5)
