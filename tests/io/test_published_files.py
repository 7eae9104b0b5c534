"""Files that datasets are published in, against other readers and values written down."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from image_files import AFFINE, SHAPE, make_image, make_label, write_any, write_nifti
from PIL import Image

from differseg_med import io
from differseg_med.errors import StudyError
from differseg_med.modality import get_modality

T2 = get_modality("mr_t2")


@pytest.mark.parametrize("ending", ["mha", "mhd"])
def test_meta_image_lies_where_itk_puts_it(ending: str, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(make_image("x", 1).T.astype(np.float32))
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((10.0, -20.0, 30.0))
    turn = np.array([[0.0, -1.0, 0.0], [0.8, 0.0, -0.6], [0.6, 0.0, 0.8]])
    image.SetDirection(turn.ravel())
    sitk.WriteImage(image, str(tmp_path / f"a.{ending}"))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    (read,) = io.read_published_image(tmp_path / f"a.{ending}", T2)
    other = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read.grid.affine, other.affine, atol=1e-4)
    np.testing.assert_array_equal(read.array, np.asarray(other.dataobj))
    index = (3, 4, 2)
    lps = np.array(image.TransformIndexToPhysicalPoint(index))
    np.testing.assert_allclose(read.grid.to_world(index), lps * (-1, -1, 1), atol=1e-9)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_meta_image_that_is_cut_off_is_refused(compressed: bool, tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(make_image("x", 1).T.astype(np.int16))
    path = tmp_path / "a.mha"
    sitk.WriteImage(image, str(path), useCompression=compressed)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StudyError, match="E_CORRUPT"):
        io.read_published_image(path, T2)


def test_meta_image_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.Image([4, 4], sitk.sitkUInt8), str(path))
    with pytest.raises(StudyError, match="E_DIMENSIONS"):
        io.read_published_image(path, T2)
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 3), str(path))
    with pytest.raises(StudyError, match="E_CHANNELS"):
        io.read_published_image(path, T2)
    (tmp_path / "b.mhd").write_text("ObjectType = Image\nElementDataFile = ../c.raw\n")
    with pytest.raises(StudyError, match="E_CORRUPT"):
        io.read_published_image(tmp_path / "b.mhd", T2)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_volumes_of_a_4d_file_are_told_apart(channel: int, tmp_path: Path) -> None:
    stack = np.stack([make_image(name, 3) for name in "abc"], axis=-1)
    write_nifti(tmp_path / "a.nii.gz", stack)
    read = io.read_nifti(tmp_path / "a.nii.gz", T2, channel=channel)
    np.testing.assert_array_equal(read.array, stack[..., channel])
    np.testing.assert_allclose(read.grid.affine, AFFINE)
    assert read.grid.shape == SHAPE


def test_a_volume_that_a_file_does_not_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_nifti(path, np.stack([make_image(name, 3) for name in "ab"], axis=-1))
    with pytest.raises(StudyError, match=r"E_CHANNELS: volume 2 was wanted of a file that holds 2"):
        io.read_nifti(path, T2, channel=2)
    with pytest.raises(StudyError, match="E_DIMENSIONS"):
        io.read_nifti(path, T2)
    write_nifti(tmp_path / "b.nii.gz", make_image("a", 3))
    with pytest.raises(StudyError, match="E_DIMENSIONS"):
        io.read_nifti(tmp_path / "b.nii.gz", T2, channel=0)
    with pytest.raises(StudyError, match=r"E_UNSUPPORTED: files that end in \.npy"):
        io.read_published_image(tmp_path / "c.npy", T2)


@pytest.mark.parametrize("named", [True, False])
def test_label_pictures_find_their_slices(named: bool, tmp_path: Path) -> None:
    """By name where there is one, else in the order of names, whatever the order in space."""
    image, label = make_image("ct", 0), make_label((1, 2), 0)
    folder = "T2SPIR" if named else "CT"
    write_any(tmp_path, f"{folder}/DICOM/", image, "ct", 0)
    write_any(tmp_path, f"{folder}/Ground/", label, "label", 0)
    (read,) = io.read_published_image(tmp_path / folder / "DICOM", get_modality("ct"))
    mask = io.read_published_label(tmp_path / folder / "Ground", tmp_path / folder / "DICOM")
    np.testing.assert_array_equal(read.array, image)
    np.testing.assert_array_equal(mask.array, label)
    assert mask.grid.is_same(read.grid)


def test_label_pictures_that_do_not_fit_the_slices_are_refused(tmp_path: Path) -> None:
    write_any(tmp_path, "T2SPIR/DICOM/", make_image("ct", 0), "ct", 0)
    write_any(tmp_path, "T2SPIR/Ground/", make_label((1,), 0), "label", 0)
    ground = tmp_path / "T2SPIR/Ground"

    def refused(code: str) -> None:
        with pytest.raises(StudyError, match=code):
            io.read_published_label(ground, tmp_path / "T2SPIR/DICOM")

    (ground / "IMG-0004-00002.png").rename(ground / "other.png")
    refused("E_LABEL: only some")
    (ground / "other.png").unlink()
    refused("E_LABEL: 5 label pictures for 6 slices")
    Image.new("L", (5, 5)).save(ground / "IMG-0004-00002.png")
    refused("E_GEOMETRY")


def test_values_of_label_pictures(tmp_path: Path) -> None:
    """Grey as it is, a palette's indices, grey in colour; real colours only where declared."""
    values = np.array([[0, 1], [2, 0], [1, 2]], np.uint8)  # rows, columns
    path = tmp_path / "a.png"
    palette = Image.fromarray(values, mode=None).convert("P")
    palette.putdata(values.ravel().tolist())
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    palette.save(path)
    np.testing.assert_array_equal(io.read_published_label(path, path).array[..., 0], values.T)
    coloured = io.read_published_label(path, path, colours=True).array[..., 0]
    assert sorted(np.unique(coloured)) == [0, 0x0000FF, 0xFF0000]
    Image.fromarray(values).convert("RGB").save(path)
    np.testing.assert_array_equal(io.read_published_label(path, path).array[..., 0], values.T)
    Image.fromarray(values * 127 > 0).save(path)
    assert set(np.unique(io.read_published_label(path, path).array)) == {0, 255}
    palette.convert("RGB").save(path)
    with pytest.raises(StudyError, match=r"E_LABEL: a\.png has colours"):
        io.read_published_label(path, path)
    path.write_bytes(b"no picture")
    with pytest.raises(StudyError, match="E_CORRUPT"):
        io.read_published_label(path, path)
