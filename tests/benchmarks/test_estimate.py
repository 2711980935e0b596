"""The estimate follows the counts, and its arithmetic is what its caption says."""

import json

import pytest

from benchmarks import estimate
from benchmarks.report import READMES, block
from benchmarks.settings import RESULTS


def launches(batch, kernels, moved, samples=1000):
    return {
        "what": "default", "batch": batch, "samples": samples,
        "kernels": {"segments": kernels - 50, "rows": 30, "scores": 20}, "bytes": {"rows": moved},
    }  # fmt: skip


def written(tmp_path, *rows):
    folder = tmp_path / "0.3.0-a-cpu"
    folder.mkdir()
    result = {"versions": {"torchlime": "0.3.0"}, "rows": rows}
    (folder / "launches.json").write_text(json.dumps(result))


@pytest.mark.parametrize(
    ("model", "giga"), [("resnet18", 1.814), ("resnet50", 4.089), ("vit_b_16", 17.56)]
)
def test_the_operations_of_a_forward_pass(model, giga):
    """torchvision's documentation has multiply-adds."""
    assert estimate.operations(model) / 2e9 == pytest.approx(giga, rel=0.01)


def test_the_cost_of_a_photo():
    one = estimate.cost(launches(4, 1050, 3.35e9), "resnet18", "bf16")
    assert one.forwards == pytest.approx(1000 * 3.628e9 / (0.4 * 989e12), rel=1e-3)
    assert one.launches == (pytest.approx(1.05e-3), pytest.approx(2.1e-3))
    assert one.bytes == pytest.approx(1e-3 / 4)
    assert one.outside == one.launches
    assert one.captured == pytest.approx((50 * 8e-6 + 1000 * 2e-6) / 4)
    assert one.photos[0] == pytest.approx(1 / (one.forwards + 2.1e-3))
    many = estimate.cost(launches(32, 1050, 32 * 3.35e9), "resnet18", "bf16")
    assert many.captured == many.outside[1] == many.bytes == pytest.approx(1e-3)


def test_where_launches_stop_to_matter():
    """They cost 4 ms at any B, bytes 1 ms for each photo."""
    single, many = launches(1, 1000, 3.35e9), launches(32, 1000, 32 * 3.35e9)
    assert estimate.bound_until(single, many, 4e-6) == pytest.approx(4)
    assert estimate.bound_until(single, many, 0.5e-6) == 1
    assert estimate.bound_until(single, single | {"batch": 32}, 4e-6) == float("inf")


def test_the_readme_follows_the_counts(tmp_path):
    written(tmp_path, launches(1, 777, 2e9), launches(32, 888, 6e10), launches(1, 1, 1, 512))
    text = block("estimate", tmp_path)
    assert text.startswith("**An estimate, not a measurement.**")
    assert "777 kernels for one photo and 888 for 32" in text
    assert f"\n{block('estimate', RESULTS)}\n" in READMES[1].read_text(encoding="utf-8")


def test_without_counts_there_is_no_estimate(tmp_path):
    assert "*Not counted.*" in block("estimate", tmp_path)
    written(tmp_path, launches(1, 777, 2e9))
    assert "*Not counted.*" in block("estimate", tmp_path)
