from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np

WATCHED = """
import builtins, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from hepar.config import IngestConfig
from hepar.ingest.looks import look_at

plain, lock, inside, most = builtins.__import__, threading.Lock(), 0, 0

def watched(name, globals=None, *more, **options):
    global inside, most
    mine = str((globals or {}).get("__name__")).startswith("hepar.ingest")
    if not mine or name.split(".")[0] not in {"nibabel", "pydicom", "PIL"}:
        return plain(name, globals, *more, **options)
    with lock:
        inside += 1
        most = max(most, inside)
    time.sleep(0.02)
    try:
        return plain(name, globals, *more, **options)
    finally:
        with lock:
            inside -= 1

builtins.__import__ = watched
paths = [Path(name) for name in sys.argv[1:]]
gate = threading.Barrier(len(paths))

def look(path):
    gate.wait()
    return look_at(path, IngestConfig())

with ThreadPoolExecutor(len(paths)) as pool:
    list(pool.map(look, paths))
print(most)
"""


def as_jpeg(path):
    """Store a slice of 8 bits as baseline JPEG, which a package has to decode."""
    import pydicom

    data = pydicom.dcmread(path)
    jpeg = cv2.imencode(".jpg", data.pixel_array)[1].tobytes()
    data.PixelData = pydicom.encaps.encapsulate([jpeg])
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    data.save_as(path)
    return path


def test_decoder_packages_are_imported_by_one_thread_at_a_time(
    tmp_path, make_nifti, make_dicom, make_png
):
    hu = np.random.default_rng(0).integers(-1000, 1000, (2, 8, 8)).astype(np.int16)
    paths = [
        *(make_nifti(tmp_path / f"{i}.nii", hu) for i in range(2)),
        *(as_jpeg(make_dicom(tmp_path / f"{i}.dcm", np.eye(8, dtype=np.uint8))) for i in range(2)),
        *(make_png(tmp_path / f"{i}.tiff") for i in range(2)),
    ]
    command = [sys.executable, "-c", WATCHED, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr
