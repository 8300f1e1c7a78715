"""The language model's generator under the name that programs know: see `lm/generator.py`."""

from .lm.generator import LmGenerator, Step

__all__ = ["LmGenerator", "Step"]
