"""Code that more than one chapter of the book uses.

Importing the package changes nothing: no seed, no style, no backend.
"""

from lorabook.layers import LoRALinear, LowRankLinear
from lorabook.seeding import deterministic, seed_all

__version__ = "0.1.0"
__all__ = ["LoRALinear", "LowRankLinear", "deterministic", "seed_all"]
