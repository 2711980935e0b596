"""lime's own tests, which come in its wheel, with the drop-in under lime's names."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("lime_tabular", "lime_text", "discretize", "submodular_pick", "explanation", "exceptions")
BREAK = {  # with lime itself too
    "test_lime_text_explainer_good_regressor": "downloads 20newsgroups",
    "test_lime_text_tabular_equal_random_state": "downloads 20newsgroups",
    "test_lime_text_tabular_not_equal_random_state": "downloads 20newsgroups",
    "test_indexed_string_callable": "np.array_equal of ragged lists",
    "test_indexed_string_regex": "np.array_equal of ragged lists",
}
SCRIPT = f"""
import importlib, sys, unittest
import lime
for name in {NAMES!r}:
    module = importlib.import_module("torchlime.compat." + name)
    sys.modules["lime." + name] = module
    setattr(lime, name, module)
tests = importlib.import_module("lime.tests." + sys.argv[1])
used = [v for v in vars(tests).values() if getattr(v, "__module__", "").startswith("lime.")]
assert not [v for v in used if not issubclass(v, unittest.TestCase)], used
every = unittest.defaultTestLoader.loadTestsFromModule(tests)
names = [test._testMethodName for case in every for test in case]
chosen = unittest.TestSuite(t for c in every for t in c if t._testMethodName not in {set(BREAK)!r})
result = unittest.TextTestRunner().run(chosen)
print(len(names), result.testsRun, result.wasSuccessful())
"""


@pytest.mark.parametrize(
    ("module", "tests", "run"),
    [("test_lime_tabular", 10, 10), ("test_discretize", 4, 4), ("test_lime_text", 9, 4)],
)
def test_they_pass(module, tests, run):
    found = subprocess.run([sys.executable, "-c", SCRIPT, module], capture_output=True, text=True,
                           cwd=ROOT)  # fmt: skip
    assert found.stdout.split()[-3:] == [str(tests), str(run), "True"], found.stderr


def test_the_two_of_ragged_lists_hold_as_lists():
    from torchlime.compat.lime_text import IndexedString

    text = IndexedString("Please, take your time. Please")
    assert text.as_list == ["Please", ", ", "take", " ", "your", " ", "time", ". ", "Please"]
    assert text.string_start.tolist() == [0, 6, 8, 12, 13, 17, 18, 22, 24]
    assert text.inverse_vocab == ["Please", "take", "your", "time"]
    assert text.positions == [[0, 8], [2], [4], [6]]
    pairs = IndexedString("aabbccddaa", lambda s: [s[i : i + 2] for i in range(0, len(s), 2)])
    assert pairs.as_np.tolist() == ["aa", "bb", "cc", "dd", "aa"]
    assert pairs.positions == [[0, 4], [1], [2], [3]]
    assert pairs.string_start.tolist() == [0, 2, 4, 6, 8]
