"""Words on a picture: what the target is called, what the axis counts, what a bar means."""

from torchlime.plot._evidence import Evidence


def axis_title(evidence: Evidence) -> str:
    """What the axis counts: "probability of tiger cat"."""
    per = " per unit of the feature" if evidence.slopes else ""
    return f"{evidence.unit} of {evidence.name}{per}"


def shown_title(shown: int) -> str:
    """What an overlay shows."""
    titles = {0: "no segment has any evidence", 1: "the strongest segment"}
    return titles.get(shown, f"the {shown} strongest segments")


def effect_title(unit: str) -> str:
    """What bars show."""
    return f"effect on the {unit}"


def legend(evidence: Evidence, *, intervals: bool, faded: bool) -> str:
    """The colours, the bars, their thin lines and the faded part, in sentences."""
    called, unit = evidence.name, evidence.unit
    if bool((evidence.coefficients != 0).any()):
        sentences = [
            f"Blue speaks for {called}, orange against it.",
            f"Hiding a segment lowers the {unit} by about the length of its blue bar, "
            "or raises it by that of its orange bar.",
        ]
    else:
        sentences = [f"No segment changes the {unit} of {called}."]
    if intervals:
        sentences.append("Thin lines are 95 % intervals.")
    if faded:
        sentences.append("The network did not see what is faded.")
    return " ".join(sentences)
