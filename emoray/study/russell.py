"""Russell's 28 affect terms and their angles (Russell 1980, circular ordering; see the marks).

Angles are degrees counter-clockwise from pleasure. They reach us second-hand: 15 terms through two agreeing
sets of notes that quote the article (`agreed`), 13 through one list of unit vectors alone (`one list`). Three
are disputed; none moves a cosine by more than about 0.02:

* frustrated: 141.0 here, 141.1 in another list
* depressed: 211.0 here, 210.0 in another list
* droopy: 256.7 here, 256.6 in the notes
"""

from __future__ import annotations

import difflib

from emoray.study.circumplex import Affect, angle_between_deg

SOURCE = "Russell, J. A. (1980). A circumplex model of affect. J. Pers. Soc. Psychol. 39(6), 1161-1178."

ANGLES_DEG: dict[str, float] = {
    "happy": 7.8,  # agreed
    "delighted": 24.9,  # agreed
    "excited": 48.6,  # agreed
    "astonished": 69.8,  # agreed
    "aroused": 73.8,  # agreed
    "tense": 92.8,  # agreed
    "alarmed": 96.5,  # agreed
    "angry": 99.0,  # one list
    "afraid": 116.0,  # one list
    "annoyed": 123.0,  # one list
    "distressed": 138.0,  # one list
    "frustrated": 141.0,  # one list; disputed
    "miserable": 188.7,  # agreed
    "sad": 207.5,  # agreed
    "gloomy": 209.0,  # one list
    "depressed": 211.0,  # one list; disputed
    "bored": 242.0,  # one list
    "droopy": 256.7,  # agreed; disputed
    "tired": 267.7,  # agreed
    "sleepy": 271.9,  # agreed
    "calm": 316.2,  # agreed
    "relaxed": 318.0,  # one list
    "satisfied": 319.0,  # one list
    "at ease": 321.0,  # one list
    "content": 323.0,  # one list
    "serene": 328.6,  # agreed
    "glad": 349.0,  # one list
    "pleased": 353.2,  # agreed
}

DISPUTED: dict[str, tuple[float, ...]] = {
    "frustrated": (141.0, 141.1),
    "depressed": (211.0, 210.0),
    "droopy": (256.7, 256.6),
}


def affect(term: str) -> Affect:
    """The unit vector of one of the 28 terms; KeyError for any other word."""
    return Affect.at(ANGLES_DEG[term])


def plain_term(word: str) -> str:
    """A term however it is spelled: `At-Ease` is `at ease`."""
    return " ".join(word.replace("_", " ").replace("-", " ").lower().split())


def near_terms(word: str, most: int = 3) -> list[str]:
    """The terms that are spelled like a word, the nearest first."""
    return difflib.get_close_matches(plain_term(word), ANGLES_DEG, most)


def nearest_term(angle_deg: float) -> str:
    """The term whose angle is closest; the first in circular order where two are equally close."""
    return min(ANGLES_DEG, key=lambda term: abs(angle_between_deg(angle_deg, ANGLES_DEG[term])))
