"""The comparison with lime runs, and reports what it measured."""

import json

from benchmarks import compat_lime


def test_a_small_run(tmp_path, capsys):
    arguments = ["--samples", "12", "--repetitions", "2", "--size", "48"]
    compat_lime.main([*arguments, "--out", str(tmp_path / "found" / "result.json")])
    rows = json.loads((tmp_path / "found" / "result.json").read_text())["rows"]
    assert [row["image"] for row in rows] == ["uint8"] * 4 + ["float64"] * 4
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2 + len(rows)
    for row, line in zip(rows, printed[2:], strict=True):
        assert line.startswith(f"| {row['implementation']} | {row['image']} |")
        assert len(row["whole"]["values"]) == 2
        assert ("outside" in row) == ("module" not in row["implementation"])
        if "outside" in row:
            parts = ("outside", "segmentation", "classifier")
            for round_, whole in enumerate(row["whole"]["values"]):
                total = sum(row[part]["values"][round_] for part in parts)
                assert abs(total - whole) < 1e-6
        ratios = row["lime's whole / this"]["values"]
        limes = next(r for r in rows if r["image"] == row["image"])["whole"]["values"]
        assert ratios == [a / b for a, b in zip(limes, row["whole"]["values"], strict=True)]
