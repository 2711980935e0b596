"""Numbers of version 0.1.0, which later versions keep: see ``test_reference.py``."""
