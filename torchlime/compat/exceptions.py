"""lime's exception, in place of ``lime.exceptions``."""


class LimeError(Exception):
    """Raised where an explanation's mode is unknown."""
