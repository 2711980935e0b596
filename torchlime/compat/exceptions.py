"""lime's exception, in place of ``lime.exceptions``."""


class LimeError(Exception):
    """The mode of an explanation is unknown."""
