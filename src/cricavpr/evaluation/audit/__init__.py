"""Audit of a method: how much its descriptors depend on the other images that are described together with a photo."""

from cricavpr.evaluation.audit.measure import Audit, Drift, Measured, run_audit
from cricavpr.evaluation.audit.page import audit_table, render_audit, write_audit
from cricavpr.evaluation.audit.verdict import Verdict, verdicts

__all__ = [
    "Audit",
    "Drift",
    "Measured",
    "Verdict",
    "audit_table",
    "render_audit",
    "run_audit",
    "verdicts",
    "write_audit",
]
