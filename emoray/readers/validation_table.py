"""The figures of a validated reader for a terminal."""

from __future__ import annotations

import math

from emoray.analysis.classification import (
    Quality,
)
from emoray.plurals import be, count
from emoray.readers.validation import Calibration, Validation
from emoray.study import paper
from emoray.study.goemotions import LabelMap

# ── for people ─────────────────────────────────────────────────────────────────────────────────────────────────────


def table(name: str, found: Quality, label_map: LabelMap) -> str:
    """The figures beside what is known of the paper's classifier."""
    theirs, cosine = paper.CLASSIFIER_ACCURACY.value, paper.CLASSIFIER_MEAN_COSINE.value
    labels = [
        f"  accuracy       {found.accuracy:.4f} ± {found.accuracy_error:.4f}  ({found.correct}/{found.comments}; the "
        f"paper's: {theirs:.4f})",
        f"  macro-F1       {found.macro_f1:.4f} ± {found.macro_f1_error:.4f}",
    ]
    zero = _with_error(found.cosine_neutral_zero, found.cosine_neutral_zero_error)
    dropped = _with_error(found.cosine_neutral_dropped, found.cosine_neutral_dropped_error)
    return "\n".join(
        [
            f"{name} on {count(found.comments, 'single-label comment')}, label map {label_map.name} ({label_map.mark})",
            *(labels if found.correct is not None else []),
            f"  mean cosine    {zero} with neutral readings as 0, {dropped} without them",
            f"                 (over {count(found.not_neutral, 'comment')} that {be(found.not_neutral)} not neutral; "
            f"the paper says {cosine:.3f}, and not which rule or map)",
            "  ±              one standard error: what other comments of this kind would change",
            *_baselines(found),
        ]
    )


def _baselines(found: Quality) -> list[str]:
    """What a reader that knows nothing would score, by the rule that counts neutral readings as 0."""
    if math.isnan(found.constant_cosine):
        return []
    return [
        f"  baselines      {_with_error(found.constant_cosine, found.constant_cosine_error)} by reading "
        f"{found.constant_label} everywhere, the best constant label;",
        f"                 {_with_error(found.permuted_cosine, found.permuted_cosine_error)} by the same readings "
        "dealt anew among the comments",
    ]


def whole_table(name: str, found: Validation, label_map: LabelMap) -> str:
    """The same, then calibration, every label and every state."""
    lines = [table(name, found.quality, label_map)]
    lines += [f"  not readable   {count(found.unread, 'more comment')}"] if found.unread else []
    lines += [f"  cost           ${found.cost_usd:,.2f}"] if found.cost_usd else []
    lines += _calibration_lines(found.calibration) if found.calibration else []
    lines += ["", f"  {'label':<15}{'comments':>9}{'F1':>15}{'cosine':>15}"]
    lines += [
        f"  {one.label:<15}{one.comments:>9,}{_with_error(one.f1, one.f1_error):>15}"
        f"{_with_error(one.cosine, one.cosine_error):>15}"
        for one in found.labels
    ]
    lines += [
        "",
        f"  {'state':<15}{'comments':>9}{'top':>15}{'expected':>15}   what it scores on human text near a state",
    ]
    lines += [
        f"  {f'{one.state_deg:.0f}°':<15}{one.texts:>9,}{_with_error(one.top, one.top_error):>15}"
        f"{_with_error(one.expected, one.expected_error):>15}"
        for one in found.ceilings
    ]
    return "\n".join(lines)


def _calibration_lines(sure: Calibration) -> list[str]:
    error, loss = _with_error(sure.error, sure.error_spread, 4), _with_error(sure.log_loss, sure.log_loss_spread, 4)
    before = _with_error(sure.error_before, sure.error_before_spread, 4)
    after = _with_error(sure.error_after, sure.error_after_spread, 4)
    doubt = f" (± {sure.temperature_spread:.2f})" if math.isfinite(sure.temperature_spread) else ""
    return [
        f"  calibration    expected error {error}, log loss {loss}",
        f"                 `temperature: {sure.temperature:.2f}`{doubt} in its entry makes it {after}, from {before} "
        f"(fitted to {sure.fitted_to}, judged on others)",
    ]


def _number(x: float, digits: int = 3) -> str:
    return "–" if math.isnan(x) else f"{x:.{digits}f}"


def _with_error(x: float, error: float, digits: int = 3) -> str:
    said = _number(x, digits)
    return f"{said} ± {_number(error, digits)}" if math.isfinite(error) else said
