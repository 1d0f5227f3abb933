"""The colours of figures and page: a hue for every direction of feeling, and four that follow light and dark."""

from __future__ import annotations

import math

INK = "#1e2227"
MUTED = "#697079"
FAINT = "#d5d9de"
PAPER = "#fefdfb"
CEILING = "#b5832a"

COLD, NOTHING, WARM = "#8f3a5e", "#f3f1ec", "#1b6b70"  # cosine -1, 0, 1
DIVERGING, DIVERGING_DARK = (COLD, NOTHING, WARM), ("#d9749c", "#24272b", "#5fb6ba")
THEMED = {
    INK: "ink", MUTED: "muted", FAINT: "faint", PAPER: "paper", CEILING: "ceiling", COLD: "warn", WARM: "accent",
}  # fmt: skip  # CSS variables on the page


def of_angle(angle_deg: float) -> str:
    """Gold for pleasure, red for arousal, violet for displeasure, teal for sleepiness: one turn of even lightness."""
    return _oklch(0.66, 0.125, 98.0 - angle_deg)


def between(first: str, second: str, share: float) -> str:
    """The colour so far (0 to 1) on the way from one to another, as hex."""
    ways = zip(_channels(first), _channels(second), strict=True)
    return "#" + "".join(f"{round(255 * (a + share * (b - a))):02x}" for a, b in ways)


def letters_on(colour: str) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2) on a colour: at least 4.58."""
    return max("#ffffff", "#000000", key=lambda letters: contrast(letters, colour))


def contrast(first: str, second: str) -> float:
    """WCAG 2's ratio of two colours, 1 to 21."""
    darker, lighter = sorted((_luminance(first), _luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in _channels(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _channels(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))


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
