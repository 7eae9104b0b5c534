"""Real PET/CT/MR studies through the whole road, against ITK and dcmqi."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from differseg_med.engine import CaseOptions, segment_case

pytestmark = pytest.mark.realdata
PATIENTS = ("sts_002", "sts_007", "sts_008", "sts_012")
LEVEL = 2.5


class Uptake:
    """Foreground is where the PET exceeds a level, on the PET's own grid: exact at every voxel."""

    modalities = ("pet", "ct", "mr_t1")
    required = ("pet",)
    reference = "pet"
    spacing = None
    window = (16, 16, 16)
    min_overlap = {"mr_t1": 0.01}  # noqa: RUF012 - stands for an instance's attribute

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return (image[:, :1] >= LEVEL).float()


def read_pet_with_itk(archive: Path, folder: Path) -> sitk.Image:
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    reader = sitk.ImageSeriesReader()
    for place in sorted({path.parent for path in folder.rglob("*.dcm")}):
        names = reader.GetGDCMSeriesFileNames(str(place))
        if names and sitk.ReadImage(names[0]).GetMetaData("0008|0060").strip() == "PT":
            return sitk.ReadImage(names, sitk.sitkFloat32)
    raise AssertionError("no PET in the archive")


def same_place(first: sitk.Image, second: sitk.Image) -> bool:
    corner = [n - 1 for n in first.GetSize()]
    ends = [image.TransformIndexToPhysicalPoint(corner) for image in (first, second)]
    return np.allclose(first.GetOrigin(), second.GetOrigin(), atol=0.01) and np.allclose(
        ends[0], ends[1], atol=0.01
    )


@pytest.mark.parametrize("patient", PATIENTS)
def test_mask_and_seg_lie_where_itk_sees_the_uptake(
    shared: Path, tmp_path: Path, patient: str
) -> None:
    archive = shared / "data/sts_dicom" / f"{patient}.zip"
    result = segment_case(archive, Uptake(), tmp_path / "out", CaseOptions())
    pet = read_pet_with_itk(archive, tmp_path / "files")
    expected = sitk.GetArrayFromImage(pet) >= LEVEL  # the archive's PET is in SUV already
    assert expected.any()

    mask = sitk.ReadImage(str(result.folder / "mask.nii.gz"))
    assert mask.GetSize() == pet.GetSize()
    assert same_place(mask, pet)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask) > 0, expected)

    seg = read_seg_with_dcmqi(result.folder / "mask.dcm", tmp_path)
    placed = sitk.Resample(seg, pet, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(placed) > 0, expected)


def read_seg_with_dcmqi(path: Path, folder: Path) -> sitk.Image:
    tool = Path(sys.executable).with_name("segimage2itkimage")
    command = [tool, "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd", "-p", "seg"]
    subprocess.run(command, check=True, capture_output=True)
    return sitk.ReadImage(str(folder / "seg-1.nrrd"))
