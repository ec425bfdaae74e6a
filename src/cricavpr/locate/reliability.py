"""A calibration as a table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cricavpr import plotting
from cricavpr.locate.calibration import Calibration

if TYPE_CHECKING:
    from cricavpr.plotting import Axes, Figure

PRECISIONS = (0.8, 0.9, 0.95, 0.98, 0.99)


def precision_table(calibration: Calibration, precisions: Sequence[float] = PRECISIONS) -> str:
    """Return lines of text: for each precision the threshold, and what it measures, answers and refuses."""
    lines = ["precision  threshold  measured  answered  refused"]
    for precision in precisions:
        level = calibration.level(precision)
        if level is None:
            lines.append(f"{precision:9.2f}  not supported by these cases: every answer would be unknown")
            continue
        shares = (level.precision, level.answered, level.refused)
        lines.append(
            f"{precision:9.2f}  {level.confidence:9.3f}  " + "  ".join(f"{100 * share:6.1f} %" for share in shares)
        )
    return "\n".join(lines)


def draw(calibration: Calibration) -> Figure:
    """Return a figure: how often answers were right against their confidence, and what each threshold gives.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure, (left, right) = plotting.new_figure(8.4, 3.6, columns=2)
    with plotting.looks():
        _draw_reliability(left, calibration)
        _draw_levels(right, calibration)
    return figure


def _draw_reliability(axes: Axes, calibration: Calibration) -> None:
    bins = calibration.reliability
    axes.plot([0, 1], [0, 1], color="#777777", linestyle=(0, (2, 4)), linewidth=1, label="ideal")
    axes.plot(
        [one.said for one in bins], [one.right for one in bins], **plotting.style(0)._asdict(), label="this index"
    )
    for one in bins:
        shift = (0, -12) if one.right > 0.9 else (0, 6)
        axes.annotate(
            f"{one.count:,}", (one.said, one.right), shift, textcoords="offset points", ha="center", fontsize=7
        )
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.08), xlabel="confidence", ylabel="share that was right")
    axes.set_title("Reliability (numbers: cases)")
    axes.legend(loc="upper left")


def _draw_levels(axes: Axes, calibration: Calibration) -> None:
    thresholds = [level.confidence for level in calibration.levels]
    columns = {
        "right among the answered": [level.precision for level in calibration.levels],
        "answered, of those in the map": [level.answered for level in calibration.levels],
        "refused, of those not in the map": [level.refused for level in calibration.levels],
    }
    for number, (label, values) in enumerate(columns.items()):
        look = plotting.style(number)
        axes.plot(thresholds, values, color=look.color, linestyle=look.linestyle, label=label)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.08), xlabel="threshold of the confidence", ylabel="share")
    axes.set_title("By threshold")
    axes.legend(loc="lower center")
