"""Audit: how much a method's descriptors depend on the images described beside them."""

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
