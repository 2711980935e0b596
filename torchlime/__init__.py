"""LIME as one tensor program, batched, on the model's device."""

__version__ = "0.1.0"
