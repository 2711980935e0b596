import sys

import pytest
import torch


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Every test may compile: without a reset they would share one limit on recompilations."""
    yield
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
