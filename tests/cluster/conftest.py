"""The entry scripts import one another as `python jobs/submit.py` does: from beside themselves."""

from __future__ import annotations

import sys

from tests.programs import ROOT

sys.path.insert(0, str(ROOT / "jobs"))
