"""What the study gate makes of every real series beside the checkout, as a Markdown table.

Each series is read alone, decoded, and compared voxel by voxel with dcm2niix and with SimpleITK
where those read the same slices. Run from the repository root:

    python tests/io/real_series.py ../shared/data --write docs/reference/real-series.md
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk

from differseg_med.errors import DifferSegError
from differseg_med.geometry import Grid, Volume
from differseg_med.io import Series, read_study, to_volume
from differseg_med.modality import MODALITIES

# -p n: rescale by the standard's tags instead of Philips' private ones
DCM2NIIX = ("dcm2niix", "-m", "n", "-b", "n", "-z", "n", "-p", "n", "-f", "%s_%d_%z")
MODALITY = {"CT": "ct", "PT": "pet", "MR": "mr_t2"}
HEADER = """# Real series and what the study gate makes of them

Every series of the public test studies (sources and licences are listed in each study set's own
notes), read alone. A volume is *right* where every voxel has the place and value that dcm2niix or
SimpleITK gives it; a refusal stands with its code. Made by `tests/io/real_series.py`; the test
marked `realdata` compares this page with what the code does.

| set | series | part | outcome | compared with |
|-|-|-|-|-|
"""


@dataclass(frozen=True)
class Outcome:
    """One row of the table."""

    archive: str
    series: str
    part: str
    outcome: str
    compared: str

    def row(self) -> str:
        return (
            f"| {self.archive} | {self.series} | {self.part} | {self.outcome} | {self.compared} |"
        )


def archives(data: Path) -> list[Path]:
    return sorted([*data.glob("dicom/*.zip"), *data.glob("sts_dicom/*.zip")])


def outcomes(archive: Path) -> Iterator[Outcome]:
    """One row for the archive as a study where it is refused, and one for every stack in it."""
    try:
        read_study(archive)
    except DifferSegError as error:
        yield Outcome(archive.stem, "whole archive", "", f"{error.code}: {error.detail}", "")
    with tempfile.TemporaryDirectory() as folder:
        for series in _unpack(archive, Path(folder)):
            yield from _series_outcomes(archive.stem, series)


def _unpack(archive: Path, folder: Path) -> list[Path]:
    """One folder per image series, numbered; other objects are left out."""
    places: dict[str, Path] = {}
    with zipfile.ZipFile(archive) as content:
        for number, name in enumerate(content.namelist()):
            data = content.read(name)
            try:
                header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
                uid = f"{header.SeriesInstanceUID} {header.Modality}"
            except (pydicom.errors.InvalidDicomError, AttributeError):
                continue
            place = places.setdefault(uid, folder / f"{len(places):03d}")
            place.mkdir(exist_ok=True)
            (place / f"{number:05d}.dcm").write_bytes(data)
    return list(places.values())


def _series_outcomes(name: str, folder: Path) -> Iterator[Outcome]:
    try:
        study = read_study(folder)
    except DifferSegError as error:
        if error.code != "E_EMPTY":
            yield Outcome(name, "?", "", f"{error.code}: {error.detail}", "")
        return
    references = _dcm2niix(folder)
    for series in study.series:
        label = f"{series.dicom} {series.number}"
        part = ", ".join(f"{key}={value}" for key, value in series.part.items())
        try:
            volume = to_volume(series, MODALITIES[MODALITY[series.dicom]])
        except DifferSegError as error:
            yield Outcome(name, label, part, f"{error.code}: {error.detail}", "")
            continue
        shape = " x ".join(map(str, volume.grid.shape))
        remarks = ", ".join(dict.fromkeys(finding.code for finding in volume.findings))
        compared = compare(volume, series, references)
        verdict = "right" if compared else "read"
        outcome = f"{verdict}: {shape}" + (f" ({remarks})" if remarks else "")
        yield Outcome(name, label, part, outcome, compared)


def _dcm2niix(folder: Path) -> list[Volume]:
    """Everything that dcm2niix makes of a folder, 4D files as several volumes."""
    if shutil.which("dcm2niix") is None:
        return []
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(
            [*DCM2NIIX, "-o", out, str(folder)],
            check=False,
            capture_output=True,
        )
        return [v for path in sorted(Path(out).glob("*.nii")) for v in _nifti_volumes(path)]


def _nifti_volumes(path: Path) -> list[Volume]:
    image = nib.load(path)
    array = image.get_fdata(dtype=np.float32)
    stacked = array.reshape(*array.shape[:3], -1)
    grid = Grid(array.shape[:3], image.affine)
    return [Volume(stacked[..., k], grid) for k in range(stacked.shape[3])]


def _simpleitk(series: Series) -> list[Volume]:
    """The same slices through SimpleITK, in the order that the gate found."""
    if len({instance.source for instance in series.instances}) != len(series.instances):
        return []
    if len(series.instances) < 2:
        return []
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([instance.source for instance in series.instances])
    reader.SetOutputPixelType(sitk.sitkFloat32)
    image = reader.Execute()
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        return []
    affine = np.eye(4)
    directions = np.array(image.GetDirection()).reshape(3, 3)
    affine[:3, :3] = directions * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    return [Volume(array, Grid(array.shape, np.diag([-1.0, -1, 1, 1]) @ affine))]


def compare(volume: Volume, series: Series, dcm2niix: list[Volume]) -> str:
    """Names of the readers that put the same values at the same places."""
    found = []
    for reader, candidates in (("dcm2niix", dcm2niix), ("SimpleITK", _simpleitk(series))):
        if any(agrees(volume, candidate) for candidate in candidates):
            found.append(reader)
    return ", ".join(found)


def agrees(volume: Volume, other: Volume, within_mm: float = 0.02) -> bool:
    """Whether another volume has the same voxels, whatever the order of its axes."""
    matrix = np.linalg.inv(other.grid.affine) @ volume.grid.affine
    whole = np.round(matrix)
    corners = volume.grid.corners()
    last = np.array(volume.grid.shape) - 1
    index = (np.indices((2, 2, 2)).reshape(3, -1).T * last) @ whole[:3, :3].T + whole[:3, 3]
    if np.abs(other.grid.to_world(index) - corners).max() > within_mm:
        return False
    if sorted(volume.grid.shape) != sorted(other.grid.shape):
        return False
    picks = np.indices(volume.grid.shape).reshape(3, -1).T @ whole[:3, :3].T + whole[:3, 3]
    picks = picks.astype(int)
    if picks.min() < 0 or (picks >= np.array(other.grid.shape)).any():
        return False
    values = other.array[tuple(picks.T)].reshape(volume.grid.shape)
    span = float(np.ptp(volume.array)) or 1.0
    apart = np.abs(values - volume.array)
    if any(finding.code == "W_PADDING" for finding in volume.findings):
        # other readers keep what stands in padding pixels
        apart[volume.array == MODALITIES[str(volume.modality)].background] = 0.0
    return bool(apart.max() <= 1e-5 * span)


def page(data: Path) -> str:
    rows = [outcome.row() for archive in archives(data) for outcome in outcomes(archive)]
    return HEADER + "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    text = page(options.data)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    else:
        print(text)  # noqa: T201


if __name__ == "__main__":
    main()
