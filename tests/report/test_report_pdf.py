"""The page on paper, and one line where the library is missing."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from hepar.errors import ReportError
from hepar.report import write_pdf, write_report


@pytest.fixture
def page(make_run, tmp_path):
    return write_report(make_run(tmp_path, ("normal", "malignant"), [f"P{i}" for i in range(12)]))


def test_the_page_is_printed_without_fetching_anything(page, tmp_path):
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError) as error:
        pytest.skip(f"no WeasyPrint here: {error}")
    asked = []

    class Tell(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Tell)
    thread = Thread(target=server.serve_forever)
    thread.start()
    secret = tmp_path / "secret.svg"
    secret.write_text("<svg/>")
    outside = (f"http://127.0.0.1:{server.server_port}/x.png", secret.as_uri())
    images = "".join(f'<img alt="" src="{url}">' for url in outside)
    page.write_text(page.read_text().replace("<main>", f"<main>{images}"))
    content = write_pdf(page).read_bytes()
    server.shutdown()
    thread.join()
    server.server_close()
    assert asked == []
    assert content.startswith(b"%PDF-")
    assert len(content) > 10_000


def test_no_page_of_paper_is_nearly_empty(page):
    """A table or figure that may not be broken leaves its heading alone on the page before."""
    try:
        from weasyprint import HTML
    except (ImportError, OSError) as error:
        pytest.skip(f"no WeasyPrint here: {error}")
    document = HTML(string=page.read_text()).render()
    lines = [sum(hasattr(box, "text") for box in p._page_box.descendants()) for p in document.pages]
    assert min(lines[:-1]) > 20


def test_a_missing_library_is_one_line(page, monkeypatch):
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(ReportError, match=r"--pdf: expected weasyprint.*hepar\[pdf\]") as caught:
        write_pdf(page)
    assert "\n" not in str(caught.value)
    assert not page.with_suffix(".pdf").exists()
