"""Drawn calls of Captum and of the drop-in, and the largest difference between them.

``python -m tests.compat.captum.test_fuzz 1000`` makes as many and prints a table; the test makes a
few.
"""

import argparse
from collections import defaultdict

from hypothesis import HealthCheck, Phase, given, settings

from tests.compat.captum.drawn import calls, difference, gate_of, is_captums

CASES = 90
QUIET = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": False,
}


@settings(max_examples=CASES, derandomize=True, **QUIET)
@given(calls())
def test_the_drop_in_gives_captums_numbers(call):
    assert is_captums(call)


def table(cases):
    """For each kind of call: how many there were, the largest difference, and its gate."""
    found = defaultdict(list)

    @settings(max_examples=cases, phases=[Phase.generate], **QUIET)
    @given(calls())
    def one(call):
        worst = difference(call)
        assert worst <= gate_of(call) or is_captums(call)
        model = "—" if call.kind == "KernelShap" else call.model
        found[call.kind, model].append((worst, gate_of(call)))
        for name in ("similarity", "perturb"):
            found[name, getattr(call, name)].append((worst / gate_of(call), 1.0))
        for name in sorted(call.arguments):
            found["argument", name].append((worst / gate_of(call), 1.0))

    one()
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int, nargs="?", default=CASES)
    for (kind, name), values in sorted(table(parser.parse_args().cases).items()):
        worst, gate = max(values)
        over = sum(value > limit for value, limit in values)
        print(f"{kind:12} {name:26} {len(values):5} calls  {worst:.1e} of {gate:.0e}  {over} over")
