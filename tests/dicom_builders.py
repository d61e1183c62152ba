"""DICOM files of the structure of real ones, written by pydicom from given counts; no real data."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from lvm_core.formats.channels import SCP_LEADS
from tests.file_builders import Counts, random_counts

TWELVE_LEAD_ECG = "1.2.840.10008.5.1.4.1.1.9.1.1"
NUMBER_OF_LEAD = {lead: number for number, lead in SCP_LEADS.items()}


def _coded(value: str, scheme: str, meaning: str) -> Dataset:
    coded = Dataset()
    coded.CodeValue = value
    coded.CodingSchemeDesignator = scheme
    coded.CodeMeaning = meaning
    return coded


def dicom_channel(
    lead: str,
    *,
    scheme: str = "SCPECG",
    code: str | None = None,
    meaning: str | None = None,
    sensitivity: str = "4.88",
    unit: str = "uV",
    correction: str = "1",
    baseline: str = "0",
    bits_stored: int = 16,
) -> Dataset:
    """Return the definition of one channel; `code` None is that of the lead in the scheme."""
    number = NUMBER_OF_LEAD.get(lead, 0)
    codes = {"SCPECG": f"5.6.3-9-{number}", "MDC": f"2:{number}"}
    channel = Dataset()
    value = codes.get(scheme, lead) if code is None else code
    channel.ChannelSourceSequence = [_coded(value, scheme, lead if meaning is None else meaning)]
    channel.ChannelSensitivity = sensitivity
    channel.ChannelSensitivityUnitsSequence = [_coded(unit, "UCUM", "unit")]
    channel.ChannelSensitivityCorrectionFactor = correction
    channel.ChannelBaseline = baseline
    channel.ChannelSampleSkew = "0"
    channel.WaveformBitsStored = bits_stored
    return channel


def dicom_group(
    counts: Counts,
    *,
    originality: str = "ORIGINAL",
    label: str = "RHYTHM",
    rate: str = "500",
    sample_type: str = "i2",
    interpretation: str = "SS",
    padding: int | None = None,
    **changes: str | int,
) -> Dataset:
    """Return a multiplex group of channels in the order of `counts`.

    `sample_type` is the NumPy type of what is stored, `interpretation` what the file says of it;
    `changes` go to `dicom_channel` for every channel. Samples are little endian.
    """
    stored = np.dtype(f"<{sample_type}")
    group = Dataset()
    group.WaveformOriginality = originality
    group.MultiplexGroupLabel = label
    group.NumberOfWaveformChannels = len(counts)
    group.NumberOfWaveformSamples = len(next(iter(counts.values())))
    group.SamplingFrequency = rate
    group.ChannelDefinitionSequence = [dicom_channel(lead, **changes) for lead in counts]  # type: ignore[arg-type]
    group.WaveformBitsAllocated = stored.itemsize * 8
    group.WaveformSampleInterpretation = interpretation
    vr = "OB" if stored.itemsize == 1 else "OW"
    if padding is not None:
        group.add_new("WaveformPaddingValue", vr, np.array(padding, stored).tobytes())
    samples = np.column_stack(list(counts.values())).astype(stored).tobytes()
    group.add_new("WaveformData", vr, samples + bytes(len(samples) % 2))
    return group


def dicom_median() -> Dataset:
    """Return the group of a median beat of 600 samples."""
    return dicom_group(random_counts(99, n_samples=600), originality="DERIVED", label="MEDIAN BEAT")


def dicom_annotation(
    meaning: str = "QRS Duration", code: str = "5.13.5-9", value: str = "92", unit: str = "ms"
) -> Dataset:
    """Return a measurement of the device."""
    annotation = Dataset()
    annotation.MeasurementUnitsCodeSequence = [_coded(unit, "UCUM", "unit")]
    annotation.ConceptNameCodeSequence = [_coded(code, "SCPECG", meaning)]
    annotation.NumericValue = value
    return annotation


def dicom_statement(
    text: str | None = None, *, value: str | None = None, coded: tuple[str, str, str] | None = None
) -> Dataset:
    """Return an annotation: unformatted text, a value in words, or one of code, scheme, meaning."""
    annotation = Dataset()
    if text is not None:
        annotation.UnformattedTextValue = text
    if value is not None:
        annotation.ConceptNameCodeSequence = [_coded("18844-1", "LN", "EKG impression")]
        annotation.TextValue = value
    if coded is not None:
        annotation.ConceptNameCodeSequence = [_coded("10:256", "MDC", "Rhythm")]
        annotation.ConceptCodeSequence = [_coded(*coded)]
    return annotation


def dicom_data_set(groups: Sequence[Dataset], *annotations: Dataset) -> Dataset:
    """Return the data set of an ECG with these waveform groups."""
    data_set = Dataset()
    data_set.SOPClassUID = TWELVE_LEAD_ECG
    data_set.SOPInstanceUID = "2.25.1"
    data_set.AcquisitionDateTime = "20180719141939.250"
    data_set.Modality = "ECG"
    data_set.Manufacturer = "Mortara"
    data_set.ManufacturerModelName = "ELI 25"
    data_set.PatientName = "Somebody^Any"
    data_set.PatientID = "1000001"
    data_set.PatientBirthDate = "19500102"
    if annotations:
        data_set.WaveformAnnotationSequence = list(annotations)
    data_set.WaveformSequence = list(groups)
    return data_set


def dicom_bytes(data_set: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return a DICOM file in a transfer syntax."""
    if syntax == ExplicitVRBigEndian:
        data_set = _swapped(data_set)
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = syntax
    data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
    sink = io.BytesIO()
    data_set.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def _swapped(data_set: Dataset) -> Dataset:
    """Swap the bytes of samples of 16 bits: pydicom writes what it is given."""
    for group in data_set.WaveformSequence:
        group["WaveformData"].value = np.frombuffer(group.WaveformData, "<i2").byteswap().tobytes()
    return data_set


def dicom_file(counts: Counts, *, with_median: bool = True, **changes: str | int | None) -> bytes:
    """Return a DICOM file as devices write it: rhythm, then the median beat."""
    rhythm = dicom_group(counts, **changes)  # type: ignore[arg-type]
    groups = [rhythm, dicom_median()] if with_median else [rhythm]
    return dicom_bytes(dicom_data_set(groups, dicom_annotation()))
