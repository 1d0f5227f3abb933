"""What `make mutants` tells of what mutmut found."""

from __future__ import annotations

import subprocess
import sys

from tests.programs import ROOT

RESULTS = """\
    emoray.run_folder.lease.x__born__mutmut_1: killed
    emoray.run_folder.lease.x__born__mutmut_2: survived
    emoray.run_folder.lease.xǁLeaseǁtake__mutmut_1: timeout
    emoray.study.scoring.x_score__mutmut_1: no tests
    emoray.study.scoring.x_score__mutmut_2: not checked
"""


def test_mutants_are_counted_by_module_and_those_that_nothing_noticed_are_named() -> None:
    script = [sys.executable, str(ROOT / "jobs/mutants.py")]
    said = subprocess.run(script, input=RESULTS, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[:4] == [
        "survived: emoray.run_folder.lease.x__born__mutmut_2",
        "timeout: emoray.run_folder.lease.xǁLeaseǁtake__mutmut_1",
        "no tests: emoray.study.scoring.x_score__mutmut_1",
        "",
    ]
    assert [line.split() for line in said[4:]] == [
        ["mutants", "killed", "timeout", "survived", "no", "tests", "other"],
        ["run_folder.lease", "3", "1", "1", "1", "0", "0"],
        ["study.scoring", "2", "0", "0", "0", "1", "1"],
        ["all", "5", "1", "1", "1", "1", "1"],
    ]
