"""Worked examples that people can run: ``python -m torchlime.examples.<name>``."""
