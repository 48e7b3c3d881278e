"""From one DICOM server and back: a series by DICOMweb, its mask as DICOM SEG, read again by highdicom.

The server is Orthanc, from Debian's packages (`apt-get install --no-install-recommends orthanc orthanc-dicomweb`), on
loopback and in a folder of its own; without it the test is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.parser import BytesParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from deploy.predict_material import NUMBER, ct_voxels, make_model, nearest, oblique, write_series
from elsewhere.deploy.dicom_series import silenced
from elsewhere.deploy.predict import predict_cases

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
DICOM = 'multipart/related; type="application/dicom"'


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """URL of the DICOMweb root of a fresh Orthanc."""
    program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or not PLUGIN.exists():
        pytest.skip("Orthanc with its DICOMweb plugin is not installed (Debian: orthanc, orthanc-dicomweb)")
    port = free_port()
    settings = {
        "StorageDirectory": str(tmp_path / "orthanc"),
        "IndexDirectory": str(tmp_path / "orthanc"),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpPort": port,
        "DicomServerEnabled": False,
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    with (tmp_path / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(tmp_path / "orthanc.json")], stdout=log, stderr=log)
    try:
        for _ in range(300):
            assert process.poll() is None, (tmp_path / "orthanc.log").read_text()
            try:
                request(f"http://127.0.0.1:{port}/system", accept="application/json")
                break
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/dicom-web"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def request(url: str, *, accept: str, body: bytes | None = None, kind: str = "") -> tuple[str, bytes]:
    """Content type and body of an answer; loopback only, whatever proxy the machine has."""
    asked = urllib.request.Request(
        url, data=body, headers={"Accept": accept} | ({"Content-Type": kind} if body else {})
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=60) as answer:
        return str(answer.headers["Content-Type"]), answer.read()


def store(root: str, files: list[Path]) -> None:
    """STOW-RS."""
    parts = [b"--B\r\nContent-Type: application/dicom\r\n\r\n" + path.read_bytes() + b"\r\n" for path in files]
    body = b"".join(parts) + b"--B--\r\n"
    _, answer = request(f"{root}/studies", accept="application/dicom+json", body=body, kind=f"{DICOM}; boundary=B")
    stored = json.loads(answer)["00081199"]["Value"]
    assert len(stored) == len(files)


def search(root: str, what: str) -> list[dict[str, Any]]:
    """QIDO-RS."""
    found: list[dict[str, Any]] = json.loads(request(f"{root}/{what}", accept="application/dicom+json")[1])
    return found


def fetch(root: str, series: str) -> list[bytes]:
    """WADO-RS: the files of a series."""
    kind, body = request(f"{root}/{series}", accept=f"{DICOM}; transfer-syntax=*")
    message = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    parts = message.get_payload()
    assert isinstance(parts, list)
    return [part.get_payload(decode=True) for part in parts]  # type: ignore[union-attr,misc]


@pytest.mark.slow
def test_a_series_comes_and_its_mask_goes_back(server: str, tmp_path: Path) -> None:
    import highdicom as hd

    voxels = ct_voxels()
    sent = write_series(tmp_path / "scanner", voxels, orientation=oblique())
    write_series(tmp_path / "scanner", voxels[:4] + 7, series="1.2.4", orientation=oblique())
    store(server, sorted(sent.iterdir()))

    here = tmp_path / "fetched"
    here.mkdir()
    found = search(server, f"series?PatientID={NUMBER}")
    assert {item["0020000E"]["Value"][0] for item in found} == {"1.2.3", "1.2.4"}
    for item in found:
        study, series = item["0020000D"]["Value"][0], item["0020000E"]["Value"][0]
        for number, data in enumerate(fetch(server, f"studies/{study}/series/{series}")):
            (here / f"{number}-{series}").write_bytes(data)  # no suffix, as many servers name them
    assert len(list(here.iterdir())) == 10

    model = make_model(tmp_path / "model")
    done = predict_cases(model, [here], tmp_path / "out", trust=True, device="cpu")
    assert (done.finished, done.failed) == (2, ())
    masks = sorted((tmp_path / "out" / "masks").glob("*.dcm"))
    store(server, masks)

    expected = {"1.2.3": nearest(voxels), "1.2.4": nearest(voxels[:4] + 7)}
    segmentations = search(server, f"series?PatientID={NUMBER}&Modality=SEG")
    assert len(segmentations) == 2
    for item in segmentations:
        study, series = item["0020000D"]["Value"][0], item["0020000E"]["Value"][0]
        (data,) = fetch(server, f"studies/{study}/series/{series}")
        assert data in {path.read_bytes() for path in masks}
        with silenced():
            seg = hd.seg.segread(BytesIO(data))
            source = str(seg.ReferencedSeriesSequence[0].SeriesInstanceUID)
            pixels = seg.get_pixels_by_source_instance(
                [f"{source}.{i + 1}" for i in range(len(expected[source]))],
                combine_segments=True,
                ignore_spatial_locations=True,
                assert_missing_frames_are_empty=True,
            )
        assert np.array_equal(pixels, expected.pop(source))
        image = pydicom.dcmread(next(iter(sent.iterdir())), stop_before_pixels=True)
        for tag in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert seg[tag].value == image[tag].value
    assert not expected
