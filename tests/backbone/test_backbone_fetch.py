"""The only download: whole, verified, resumable, and refused in one line otherwise."""

from __future__ import annotations

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save

from hepar.backbone import fetch_weights, find_weights, list_weights
from hepar.backbone.catalog import BACKBONES
from hepar.backbone.weights import snapshots
from hepar.errors import BackboneError

NAME = "vgg16"
SPEC = BACKBONES.get(NAME)


def checkpoint() -> bytes:
    """A whole checkpoint as the hub has it: float16, with a classifier that is of no use here."""
    arrays = {k: v.astype(np.float16) for k, v in find_weights(NAME, "random").arrays.items()}
    return save({**arrays, "head.fc.bias": np.zeros(1000, np.float16)})


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on the loopback that redirects to its storage, as the real one does."""
    state = SimpleNamespace(content=checkpoint(), sha256=None, cut=None, requests=[])
    state.sha256 = hashlib.sha256(state.content).hexdigest()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.requests.append((self.path, self.headers.get("Range")))
            if self.path == f"/{SPEC.hub_id}/resolve/main/model.safetensors":
                self.send_response(302)
                self.send_header("Location", "/storage/blob")
                self.send_header("X-Repo-Commit", "abc123")
                self.send_header("X-Linked-Etag", f'"{state.sha256}"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.path != "/storage/blob":
                self.send_error(404)
                return
            at = int((self.headers.get("Range") or "bytes=0-")[6:-1])
            body = state.content[at:]
            self.send_response(206 if at else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if state.cut is None else body[: state.cut])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HEPAR_WEIGHTS", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_was_fetched_is_found(hub):
    assert list_weights()[NAME] == ""
    path = fetch_weights(NAME)
    assert path.read_bytes() == hub.content
    assert path.parent.name == "abc123"
    assert (snapshots(SPEC).parent / "refs" / "main").read_text() == "abc123"
    weights = find_weights(NAME)
    assert weights.source == f"hub cache, {SPEC.hub_id}"
    assert weights.mean == SPEC.mean
    fetch_weights(NAME)
    assert len(hub.requests) == 2


def test_a_broken_transfer_is_taken_up_where_it_stopped(hub):
    hub.cut = 1_000_000
    with pytest.raises(BackboneError, match="broke off at 1,000,000 of"):
        fetch_weights(NAME)
    hub.cut = None
    assert fetch_weights(NAME).read_bytes() == hub.content
    assert hub.requests[-1][1] == "bytes=1000000-"


def test_other_bytes_than_announced_are_thrown_away(hub):
    hub.sha256 = "0" * 64
    with pytest.raises(
        BackboneError, match=r"expected SHA-256 000000000000.*run the command again"
    ):
        fetch_weights(NAME)
    assert not list(snapshots(SPEC).rglob("*.*"))


@pytest.mark.usefixtures("hub")
def test_a_missing_file_and_no_network_name_the_other_way(monkeypatch):
    with pytest.raises(BackboneError, match=r"resnet50.*Not Found.*set HEPAR_WEIGHTS"):
        fetch_weights("resnet50")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BackboneError, match=r"Connection refused.*set HEPAR_WEIGHTS"):
        fetch_weights(NAME)


def test_an_answer_that_is_not_http_is_refused_in_one_line(hub, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"hello\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(BackboneError, match=r"weights of vgg16: .*hello"):
            fetch_weights(NAME)
        thread.join()
    assert hub.requests == []


def test_offline_is_honoured(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BackboneError, match="HF_HUB_OFFLINE forbids a download"):
        fetch_weights(NAME)
    assert hub.requests == []
