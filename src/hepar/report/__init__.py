"""What a person reads: one self-contained page made from the files of a run."""

from hepar.report.comparison import comparison_rows, write_comparison
from hepar.report.comparisons import write_comparisons
from hepar.report.documents import DOCUMENTS, write_documents
from hepar.report.findings import write_findings
from hepar.report.html import write_report
from hepar.report.inputs import ReportInputs, read_inputs
from hepar.report.maps import map_verdict
from hepar.report.pdf import write_pdf
from hepar.report.reproduction import write_reproduction
from hepar.report.samples import most_confident, write_samples
from hepar.report.section import Section
from hepar.report.sections import SECTIONS
from hepar.report.series import write_series_page

__all__ = [
    "DOCUMENTS",
    "SECTIONS",
    "ReportInputs",
    "Section",
    "comparison_rows",
    "map_verdict",
    "most_confident",
    "read_inputs",
    "write_comparison",
    "write_comparisons",
    "write_documents",
    "write_findings",
    "write_pdf",
    "write_report",
    "write_reproduction",
    "write_samples",
    "write_series_page",
]
