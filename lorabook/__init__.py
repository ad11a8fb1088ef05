"""Code that more than one chapter of the book uses.

Importing it imports nothing: each module stands for itself.
"""

__version__ = "0.1.0"
