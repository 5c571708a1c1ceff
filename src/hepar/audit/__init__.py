"""Leaks: copies across patients and labels, and whose images belong together."""

from hepar.audit.audit import Audit, audit_cohort, grouped, read_audit, write_audit
from hepar.audit.groups import join
from hepar.audit.links import Link, find_links, near_pairs
from hepar.audit.looks import Looks, looking_recipe, read_looks
from hepar.audit.partitions import audit_partitions
from hepar.audit.sheet import draw_sheet, write_sheet

__all__ = [
    "Audit",
    "Link",
    "Looks",
    "audit_cohort",
    "audit_partitions",
    "draw_sheet",
    "find_links",
    "grouped",
    "join",
    "looking_recipe",
    "near_pairs",
    "read_audit",
    "read_looks",
    "write_audit",
    "write_sheet",
]
