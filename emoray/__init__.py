"""emoray: can a language model express the emotion it is told to, and how surely do we know?"""

__version__ = "0.1.0"
