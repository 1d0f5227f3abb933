"""The code that trained the detector of refusals lives in jobs/, so it is put on the path here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "jobs"))
