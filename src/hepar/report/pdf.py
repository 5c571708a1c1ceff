"""A page as PDF."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hepar.errors import ReportError
from hepar.provenance import write_atomic

__all__ = ["write_pdf"]


def write_pdf(page: Path) -> Path:
    """Write a page as PDF beside it; nothing is fetched from anywhere.

    Args:
        page: HTML that this package wrote.

    Returns:
        The path of the PDF.

    Raises:
        ReportError: the library that does it is not installed, or lacks its system libraries.
    """
    try:
        from weasyprint import HTML
        from weasyprint.urls import URLFetcher
    except (ImportError, OSError) as error:
        raise ReportError(
            f"--pdf: expected weasyprint, got {str(error).splitlines()[0]}. "
            "pip install 'hepar[pdf]' (it needs the system library Pango), or print the page to a "
            "file with a browser."
        ) from None
    for name in ("weasyprint", "fontTools"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    path = page.with_suffix(".pdf")
    embedded = URLFetcher(allowed_protocols={"data"}, allow_redirects=False)
    document: Any = HTML(string=page.read_text(encoding="utf-8"), url_fetcher=embedded)
    write_atomic(path, document.write_pdf())
    return path
