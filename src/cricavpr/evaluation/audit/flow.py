"""The audit from method and dataset to files: audit.html and audit.json, and descriptors while it lasts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from cricavpr.datasets.base import EvalDataset
from cricavpr.evaluation.audit.measure import Audit, run_audit
from cricavpr.evaluation.audit.page import render_audit
from cricavpr.evaluation.audit.verdict import verdicts
from cricavpr.files import write_text
from cricavpr.methods.base import Method


def write_audit(
    method: Method, dataset: EvalDataset, out: Path, *, cache: Path | None = None, **settings: Any
) -> Audit:
    """Run an audit and write its page and its numbers into `out`.

    Args:
        cache: keeps the descriptors for later; without it they lie in `out` until the audit is done, so that one that
            was interrupted goes on where it stopped.
        settings: as for `run_audit`.

    Raises:
        InputError: as for `run_audit`, or a place that cannot be written.
    """
    folder = cache if cache is not None else out / ".descriptors"
    audit = run_audit(method, dataset, folder, **settings)
    said = [{"level": verdict.level, "says": verdict.says} for verdict in verdicts(audit)]
    write_text(out / "audit.json", json.dumps({**audit.to_dict(), "verdicts": said}, indent=1, allow_nan=False) + "\n")
    write_text(out / "audit.html", render_audit(audit))
    if cache is None:
        shutil.rmtree(folder, ignore_errors=True)
    return audit
