"""Small models and small DICOM series for the tests of `elsewhere predict`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

NAME, NUMBER = "Geheimrat^Klara", "PAT-0815-4711"
NETWORK = "deploy.nearest:Nearest"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def oblique() -> tuple[float, ...]:
    """Rows and columns of a plane that is turned about two axes, as ImageOrientationPatient has it."""
    a, b = np.deg2rad(20), np.deg2rad(-35)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    turned = about_z @ about_x
    return (*turned[:, 0].tolist(), *turned[:, 1].tolist())


def ct_voxels(seed: int = 0, shape: tuple[int, int, int] = (6, 10, 12)) -> NDArray[np.int64]:
    """(slices, rows, columns) of air and tissue in Hounsfield units: -1000 to 1000 in blocks and noise."""
    rng = np.random.default_rng(seed)
    voxels = rng.integers(-20, 20, shape)
    voxels[1:4, 2:7, 3:9] += 300
    voxels[2:5, 6:9, 1:4] += 900
    voxels[:, 0] -= 1000
    return voxels


def write_series(
    folder: Path,
    voxels: NDArray[Any],
    *,
    series: str = "1.2.3",
    study: str = "1.9.8",
    origin: Sequence[float] = (-20.0, 15.0, 100.0),
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (0.5, 0.8),
    step: float = 3.0,
    slope: float = 1,
    intercept: float = -1024,
    skip: Sequence[int] = (),
    **changes: Any,
) -> Path:
    """Write (slices, rows, columns) in rescaled units as CT files whose names tell nothing of their order.

    A change to None removes the tag.
    """
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(orientation[:3], orientation[3:])
    names = np.random.default_rng(len(series)).permutation(len(voxels))
    for index, pixels in enumerate(voxels):
        if index in skip:
            continue
        uid = f"{series}.{index + 1}"
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, uid
        data.PatientName, data.PatientID, data.PatientSex, data.PatientBirthDate = NAME, NUMBER, "F", "19500102"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, study + ".7"
        data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20240102", "101010", "1", "A1"
        data.ReferringPhysicianName, data.SeriesNumber, data.InstanceNumber, data.Modality = "", 1, index, "CT"
        data.Rows, data.Columns = pixels.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.PixelSpacing, data.ImageOrientationPatient, data.SliceThickness = list(spacing), list(orientation), step
        data.ImagePositionPatient = [float(x) for x in np.array(origin) + index * step * normal]
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
        data.PixelData = np.rint((pixels - intercept) / slope).astype(np.uint16).tobytes()
        for tag, value in changes.items():
            delattr(data, tag) if value is None else setattr(data, tag, value)
        data.save_as(folder / f"{NUMBER}-{names[index]:03d}-{series}.dcm")
    return folder


def write_multiframe(path: Path, folder: Path, order: Sequence[int]) -> Path:
    """Write the series of a folder as one enhanced CT whose frames are in the given order of position."""
    import highdicom as hd
    import pydicom

    datasets = [pydicom.dcmread(file) for file in folder.iterdir()]
    datasets.sort(key=lambda data: int(data.InstanceNumber))
    enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(
        datasets,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
    )
    frames = list(enhanced.PerFrameFunctionalGroupsSequence)
    heights = [float(f.PlanePositionSequence[0].ImagePositionPatient[2]) for f in frames]
    sorted_frames = np.argsort(heights)[list(order)]
    size = len(enhanced.PixelData) // len(frames)
    pixels = [enhanced.PixelData[i * size : (i + 1) * size] for i in range(len(frames))]
    enhanced.PerFrameFunctionalGroupsSequence = [frames[i] for i in sorted_frames]
    enhanced.PixelData = b"".join(pixels[i] for i in sorted_frames)
    enhanced.save_as(path)
    return path


def make_model(
    folder: Path,
    *,
    task: str = "segmentation",
    dims: int = 3,
    classes: tuple[str, ...] = ("background", "tissue", "bone"),
    centres: Sequence[float] = (0, 301, 900),
    channels: tuple[str, ...] = ("image",),
    label_values: dict[int, int] | None = None,
    temperature: float | None = None,
    **preprocessing: Any,
) -> Path:
    """Write the folder of a model that knows each voxel's class by its intensity (see `nearest`)."""
    from elsewhere import networks, tasks
    from elsewhere.deploy.features import input_statistics
    from elsewhere.deploy.folder import write_folder
    from elsewhere.deploy.inputs import stored_case
    from elsewhere.deploy.outliers import DevelopmentStatistics
    from elsewhere.study.case import Geometry, Picture
    from elsewhere.study.preprocessing import Preprocessing
    from elsewhere.training.model_io import build, describe, save_model, weights

    networks.trust(NETWORK)
    prepared = Preprocessing(dims=dims, channels=channels, intensity="none", **preprocessing)
    options = {"centres": list(centres), "whole": task == "classification"}
    config = describe("erm", {}, NETWORK, options, tasks.create(task, dims, classes), 2, prepared, None)
    config |= {"format": 2, "overlap": 0.5, "temperature": temperature, "thresholds": {}, "conformal": {}}
    if label_values is not None:
        config["label_values"] = label_values
    raw = save_model(folder.parent / f"{folder.name}-parts", weights(build(config)), config, "last")
    rng = np.random.default_rng(0)
    inputs = []
    for _ in range(12):
        array = rng.normal(100, 100, (len(channels), *(12,) * dims)).astype(np.float32)
        picture = Picture(array, Geometry(array.shape[1:], (1.0,) * dims))
        inputs.append(input_statistics(stored_case(picture, "development", prepared, n_files=len(channels))))
    patients = [f"p{i}" for i in range(6)]
    nothing = np.zeros((6, 0))
    statistics = DevelopmentStatistics.fit(nothing, inputs[:6], patients).calibrate(nothing, inputs[6:], patients)
    statistics.save(raw / "development.safetensors")
    return write_folder(
        folder, raw / "model.safetensors", config, raw / "development.safetensors", "# A model of a test\n"
    )


def nearest(voxels: NDArray[Any], centres: Sequence[float] = (0, 301, 900)) -> NDArray[np.intp]:
    """Class of each voxel, as the model of `make_model` has it."""
    found: NDArray[np.intp] = np.abs(voxels[..., None] - np.array(centres)).argmin(axis=-1)
    return found
