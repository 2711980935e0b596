"""Errors as one sentence each."""

_SAY_WHAT_IS_WRONG = (ImportError, OSError, RuntimeError, TypeError, ValueError)


def sentence_of(error: BaseException) -> str:
    """What an error says, on one line; with its kind where that alone says what is wrong.

    >>> sentence_of(ValueError("top must be \\n at least 1")), sentence_of(KeyError("head"))
    ('top must be at least 1', "KeyError: 'head'")
    """
    sentence = " ".join(str(error).split())
    if sentence and isinstance(error, _SAY_WHAT_IS_WRONG):
        return sentence
    return f"{type(error).__name__}: {sentence}"
