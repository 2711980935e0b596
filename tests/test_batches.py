"""One call for what is of one size, and one for each where that fails."""

import pytest

from torchlime._batches import in_batches


def test_items_of_one_size_go_through_one_call():
    calls = []

    def call(some):
        calls.append(some)
        return [word.upper() for word in some]

    found = list(in_batches(["a", "bb", "c", "dd", "e"], len, call))
    assert found == [("a", "A"), ("c", "C"), ("e", "E"), ("bb", "BB"), ("dd", "DD")]
    assert calls == [["a", "c", "e"], ["bb", "dd"]]


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3)])
def test_what_fails_together_is_tried_alone(error):
    calls = []

    def call(some):
        calls.append(len(some))
        for item in some:  # the error comes after some results did
            if item == 2:
                raise error
            yield item * 10

    assert list(in_batches([1, 2, 3], bool, call)) == [(1, 10), (2, error), (3, 30)]
    assert calls == [3, 1, 1, 1]


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()])
def test_what_is_no_items_fault_is_raised(error):
    def call(some):
        raise error

    with pytest.raises(type(error)):
        list(in_batches([1, 2], bool, call, stop_at=(MemoryError,)))


def test_a_result_for_each():
    with pytest.raises(ValueError, match="shorter"):
        list(in_batches([1, 2], bool, lambda some: [0]))
