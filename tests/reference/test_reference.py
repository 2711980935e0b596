"""No number changes: every setting of version 0.1.0 gives what it gave."""

import numpy as np
import pytest

from tests.reference.cases import CASES, FIELDS, NUMBERS

EXACT = {"targets", "segments", "segment_count", "problems"}
FLOAT32 = 1e-6  # a mean over pixels in float32 depends on the processor's vectors


@pytest.fixture(scope="module")
def written():
    with np.load(NUMBERS) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.filterwarnings("ignore:Orthogonal needs num_samples:UserWarning")
@pytest.mark.filterwarnings("ignore:.* samples in pairs span:UserWarning")
@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_those_written_down(name, written):
    explanation = CASES[name]()
    for field in FIELDS:
        expected = written.get(f"{name}/{field}")
        value = getattr(explanation, field)
        if expected is None:
            assert value is None or not value.numel(), field
            continue
        found = value.detach().numpy()
        assert found.shape == expected.shape, field
        assert found.dtype == expected.dtype, field
        if field in EXACT or found.dtype == bool:
            np.testing.assert_array_equal(found, expected, field)
        else:
            tolerance = FLOAT32 if name == "float32" else 1e-9
            scale = np.nanmax(np.abs(expected), initial=1e-300)
            np.testing.assert_allclose(found / scale, expected / scale, 0, tolerance, err_msg=field)


def test_every_case_is_written_down(written):
    assert {name.split("/")[0] for name in written} == set(CASES)
