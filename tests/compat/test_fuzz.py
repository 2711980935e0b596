"""Random calls of lime and of the drop-in, and the largest difference between them.

``python -m tests.compat.test_fuzz 1000`` runs as many and prints it; the test runs a few.
"""

import argparse
import warnings
from typing import NamedTuple

import numpy as np
from lime import lime_image as lime
from sklearn.linear_model import BayesianRidge, Lasso, LinearRegression, Ridge

from tests.compat.side_by_side import (
    Recorder,
    assert_same,
    assert_same_batches,
    explain,
    picture,
    under_the_ids_of,
)
from torchlime.compat import lime_image as ours

CASES = 60
METRICS = {"cosine": 1, "hamming": 1, "euclidean": 8, "cityblock": 20}  # and their kernels' width
METHODS = ("auto", "none", "highest_weights", "forward_selection", "lasso_path")
REGRESSORS = (None, Ridge(0.1), Ridge(30), Lasso(0.003), LinearRegression(), BayesianRidge())
DTYPES = (np.uint8, np.int64, np.uint16, np.float16, np.float32, np.float64)
ID_DTYPES = (np.int64, np.int32, np.int16, np.uint8, np.uint64, np.float64)


class Case(NamedTuple):
    image: np.ndarray
    ranks: np.ndarray  # [H,W], 0…M−1
    segments: np.ndarray  # [H,W], the same under other ids
    recorder: Recorder
    init: dict
    arguments: dict


def case(seed):
    """A call that has a defined answer in lime, and a label map of any ids."""
    rng = np.random.RandomState(seed)
    choose = lambda *options: options[rng.randint(len(options))]  # noqa: E731
    size = tuple(rng.randint(6, 15, 2))
    channels = choose(3, 3, 3, None, 1, 2, 5)
    image = picture(choose(*DTYPES), size, channels, seed)
    count = rng.randint(1, 12)
    ranks = rng.permutation(np.arange(size[0] * size[1]) % count).reshape(size)
    ids = np.sort(rng.choice(np.arange(-100, 101), count, replace=False))
    dtype = choose(*ID_DTYPES)
    ids = choose(np.arange(count), np.arange(count) + 1, ids - (ids[0] if dtype().dtype.kind == "u"
                                                               else 0))  # fmt: skip
    metric, classes = choose(*METRICS), rng.randint(1, 6)
    hide = choose(None, 0, 0.5, 3) if channels in (3, None) else choose(0, 0.5, 3)
    arguments = {
        "hide_color": hide,
        "labels": list(rng.randint(-classes, classes, rng.randint(1, 4))),
        "top_labels": choose(None, 0, 1, 2, 5, -1),
        "num_features": choose(1, 3, 6, 7, count, 100000),
        "num_samples": rng.randint(3 * count + 6, 90),
        "batch_size": choose(None, 0, 1, 7, 10, 200),
        "distance_metric": metric,
        "model_regressor": choose(*REGRESSORS),
        "random_seed": choose(None, 3),
    }
    init = {
        "random_state": rng.randint(2**31),
        "kernel_width": choose(0.25, 0.5, 2) * METRICS[metric],
        "feature_selection": choose(*METHODS),
    }
    recorder = Recorder(classes, rng.randint(99), choose(np.float32, np.float64))
    return Case(image, ranks, ids.astype(dtype)[ranks], recorder, init, arguments)


def difference(one):
    """The largest difference of any number of the two explanations of a case."""
    recorders = one.recorder, Recorder()
    recorders[1].__dict__.update(one.recorder.__dict__, batches=[])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, mine = (
            explain(module, one.image, recorder, one.init, **one.arguments,
                    segmentation_fn=lambda _, given=segments: given.copy())
            for module, recorder, segments in zip(
                (lime, ours), recorders, (one.ranks, one.segments), strict=True
            )
        )  # fmt: skip
    assert_same_batches(*(recorder.batches for recorder in recorders))
    assert_same_pictures(one, theirs, mine)
    assert_same(under_the_ids_of(one.segments, theirs), mine, 1e-6)
    if not theirs.local_exp:  # top_labels=-1 of one class
        return 0.0
    pairs = [(theirs.score, mine.score), (theirs.local_pred[0], mine.local_pred[0])]
    pairs += [(theirs.intercept[label], mine.intercept[label]) for label in theirs.intercept]
    for label, weights in theirs.local_exp.items():
        found = dict(mine.local_exp[label])
        pairs += [(weight, found[id_]) for id_, weight in weights]
    return max(abs(a - b) for a, b in pairs)


def assert_same_pictures(one, theirs, mine):
    """Bit for bit, of all segments, so that no order of equal weights matters."""
    if one.image.ndim == 3 and one.image.shape[2] < 3:
        signs = ((True, False), (False, True))  # lime paints in red and green
    else:
        signs = ((True, False), (False, True), (False, False))
    for label, weights in theirs.local_exp.items():
        if min(abs(weight) for _, weight in weights) < 1e-9:
            continue  # whose sign is a matter of rounding
        for positive, negative in signs:
            arguments = (label, positive, negative, bool(label % 2), 100)
            for a, b in zip(*(e.get_image_and_mask(*arguments) for e in (theirs, mine)),
                            strict=True):  # fmt: skip
                np.testing.assert_array_equal(a, b.astype(a.dtype))


def fuzz(cases, start=0):
    """(largest difference, its case) of so many cases."""
    return max((difference(case(seed)), seed) for seed in range(start, start + cases))


def test_the_drop_in_gives_limes_numbers():
    largest, seed = fuzz(CASES)
    assert largest < 1e-10, f"case {seed}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int, nargs="?", default=CASES)
    parser.add_argument("--start", type=int, default=0)
    given = parser.parse_args()
    print("largest difference {:.3g}, of case {}".format(*fuzz(given.cases, given.start)))
