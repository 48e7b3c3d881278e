"""A mask of a DICOM series as a DICOM SEG, made by highdicom: a segment a class, frames in the place of their slices.

The object names the images that it was made of and carries their patient, study and frame of reference, as DICOM has
it: a PACS could not file it otherwise. Of the patient that is name, number, date of birth and sex; what else highdicom
would copy of patient and study (comments, history, diagnoses, other physicians, trial, age) is left behind.
Its values are numbered by class (segment 1 is the first foreground class).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag

from elsewhere import __version__
from elsewhere.deploy.dicom_series import Series, silenced, sources
from elsewhere.deploy.labelling import Labelling
from elsewhere.errors import RunError
from elsewhere.files import atomic
from elsewhere.study.case import Geometry

SERIES_NUMBER = 9100
"""Of what we add to a study: far from the numbers that scanners give (our choice)."""

_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
_SEXES = ("", "M", "F", "O")

_PERSONAL_GROUPS = (0x0010, 0x0012, 0x0032, 0x0038)
"""Of tags: the patient, clinical trials, the request, the visit."""

_NEEDED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID"),
)
_NOT_NEEDED = (
    *("ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName", "PhysiciansOfRecord"),
    *("ConsultingPhysicianIdentificationSequence", "PhysiciansOfRecordIdentificationSequence"),
    *("NameOfPhysiciansReadingStudy", "PhysiciansReadingStudyIdentificationSequence"),
    *("AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence"),
)


def write_segmentation(
    path: Path, labels: NDArray[Any], geometry: Geometry, series: Series, labelling: Labelling, name: str
) -> None:
    """Write class indices as a binary SEG with one segment a foreground class; empty frames are left out.

    Args:
        path: of the file; complete or not at all.
        labels: (columns, rows, slices) or (rows, columns), as `dicom_series.read_series` lays them out.
        geometry: of the series.
        series: what they were predicted on.
        labelling: names of the classes.
        name: of the series, in messages.

    Raises:
        RunError: the headers of the series do not make a SEG, or the disk is full.
    """
    if len(labelling.classes) > 256:
        raise RunError(f"{name}: {len(labelling.classes)} classes; a DICOM SEG is written of 255 at most")
    with silenced():
        try:
            datasets, order = sources(series)
            _complete(datasets, geometry)
            segmentation = _make(labels, datasets, order, labelling)
        except Exception as error:  # what a library says of a header may quote it
            raise RunError(f"{name}: no DICOM SEG can be made of its headers ({_reason(error)})") from None
        with atomic(path) as temporary:
            segmentation.save_as(temporary)


def _make(labels: NDArray[Any], datasets: list[Any], order: NDArray[np.intp], labelling: Labelling) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    frames = labels.transpose(2, 1, 0)[order] if labels.ndim == 3 else labels[None]
    algorithm = hd.AlgorithmIdentificationSequence(
        name=_words(labelling.model), family=codes.DCM.ArtificialIntelligence, version=__version__
    )
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=_words(label),
            # The label says what it is; a code for it is nobody's to guess.
            segmented_property_category=codes.SCT.Tissue,
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, label in enumerate(labelling.classes[1:], start=1)
    ]
    return hd.seg.Segmentation(
        source_images=datasets,
        pixel_array=np.ascontiguousarray(frames, dtype=np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="elsewhere",
        manufacturer_model_name=_words(labelling.model),
        software_versions=__version__,
        device_serial_number="0",
        series_description=_words(f"{labelling.model}: segmentation"),
        content_label="SEGMENTATION",
        omit_empty_frames=bool(frames.any()),  # highdicom keeps all where all are empty
        specific_character_set="ISO_IR 192",
    )


def _complete(datasets: list[Any], geometry: Geometry) -> None:
    """Mend what highdicom asks of headers beyond what it takes to read the images; only in memory."""
    first = datasets[0]
    placed = "ImagePositionPatient" in first and "FrameOfReferenceUID" in first
    for dataset in datasets:
        _keep_what_is_needed(dataset)
        for keyword in _MAY_BE_EMPTY:
            if keyword not in dataset:
                setattr(dataset, keyword, "")
        if str(dataset.PatientSex or "") not in _SEXES:
            dataset.PatientSex = ""
        if "ImageOrientationPatient" in first:  # equal but for rounding: `study.dicom` has seen to that
            dataset.ImageOrientationPatient = first.ImageOrientationPatient
        if placed and dataset.get("SliceThickness") is None:
            dataset.SliceThickness = geometry.spacing[2] if geometry.spacing and len(geometry.shape) == 3 else 1.0
        if not placed and "SliceThickness" not in dataset and "PixelSpacing" in dataset:
            del dataset.PixelSpacing  # of a radiograph: highdicom would write measures that it cannot read again
    if "PerFrameFunctionalGroupsSequence" in first and "SharedFunctionalGroupsSequence" in first:
        shared, own = first.SharedFunctionalGroupsSequence[0], first.PerFrameFunctionalGroupsSequence[0]
        for keyword in ("PixelMeasuresSequence", "PlaneOrientationSequence"):  # some scanners repeat them in each frame
            if keyword not in shared and keyword in own:
                setattr(shared, keyword, own[keyword].value)


def _keep_what_is_needed(dataset: Any) -> None:
    """Take away what says more of a patient than whose image it is; only in memory."""
    for tag in [tag for tag in dataset.keys() if tag.group in _PERSONAL_GROUPS]:  # noqa: SIM118  a Dataset, no dict
        if keyword_for_tag(tag) not in _NEEDED:
            del dataset[tag]
    for keyword in _NOT_NEEDED:
        dataset.pop(keyword, None)


def _words(text: str) -> str:
    """As a DICOM long string: 64 characters, without backslashes and control characters."""
    return "".join(c if c.isprintable() and c != "\\" else " " for c in text)[:64].strip() or "unnamed"


def _reason(error: Exception) -> str:
    """What is wrong, in words that hold no value of a header."""
    said = str(error)
    for sign, words in (
        ("Frame Of Reference", "they have no FrameOfReferenceUID"),
        ("Only a single frame", "they have no FrameOfReferenceUID or no position"),
        ("Only one source image", "several files of several frames"),
        ("same series", "its files differ in study, size or frame of reference"),
    ):
        if sign in said:
            return words
    missing = getattr(error, "name", None)
    return f"{missing} is missing" if isinstance(error, AttributeError) and missing else type(error).__name__
