"""The colours of figures and page: a hue for every direction of feeling, and four that follow light and dark."""

from __future__ import annotations

import math

INK = "#1e2227"
MUTED = "#697079"
FAINT = "#d5d9de"
PAPER = "#fefdfb"
CEILING = "#b5832a"
THEMED = {INK: "ink", MUTED: "muted", FAINT: "faint", PAPER: "paper", CEILING: "ceiling"}  # CSS variables on the page

COLD, NOTHING, WARM = "#8f3a5e", "#f3f1ec", "#1b6b70"  # cosine -1, 0, 1


def of_angle(angle_deg: float) -> str:
    """Gold for pleasure, red for arousal, violet for displeasure, teal for sleepiness: one turn of even lightness."""
    return _oklch(0.66, 0.125, 98.0 - angle_deg)


def _oklch(lightness: float, chroma: float, hue_deg: float) -> str:
    """The sRGB colour of a point in Ottosson's OKLCH, as hex."""
    a, b = chroma * math.cos(math.radians(hue_deg)), chroma * math.sin(math.radians(hue_deg))
    long, medium, short = (
        (lightness + x * a + y * b) ** 3
        for x, y in ((0.3963377774, 0.2158037573), (-0.1055613458, -0.0638541728), (-0.0894841775, -1.291485548))
    )
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.707614701 * short,
    )
    return "#" + "".join(f"{round(255 * _gamma(min(1.0, max(0.0, channel)))):02x}" for channel in linear)


def _gamma(x: float) -> float:
    return float(12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055)
