"""Lesion-wise numbers by hand, against the challenges' published procedures in SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from differseg_med.metrics import Lesions, case_metrics, count_lesions, missed_voxels


def image(text: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in text.split()])


TRUTH = image("##....## ##....## ........ ..#..... ...#....")
PRED = image("#......# .......# ..##.... ........ #......#")


def test_by_hand() -> None:
    """Three true lesions, the last joined by a corner; four predicted, two of them on lesions.

    The patch in row 2 touches the diagonal lesion by a corner only, which shares no voxel.
    """
    found = count_lesions(PRED, TRUTH)
    assert found == Lesions(predicted=5, matched=2, true=3, found=2)
    assert found.sensitivity == pytest.approx(2 / 3)
    assert found.precision == pytest.approx(2 / 5)
    assert found.f1 == pytest.approx(2 * (2 / 3) * (2 / 5) / (2 / 3 + 2 / 5))
    assert missed_voxels(PRED, TRUTH) == 4
    assert missed_voxels(TRUTH, PRED) == 2


def test_one_blob_over_three_lesions_finds_all_three() -> None:
    found = count_lesions(image("########"), image("#..#...#"))
    assert found == Lesions(predicted=1, matched=1, true=3, found=3)


def random_masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(seed).random((2, 14, 15, 16))
    return numbers[0] > 0.95, numbers[1] > 0.94


@pytest.mark.parametrize("seed", range(3))
def test_detection_as_the_wmh_challenge_counts_it(seed: int) -> None:
    pred, truth = random_masks(seed)
    images = [sitk.GetImageFromArray(m.astype(np.uint32)) for m in (pred, truth)]
    shares = []
    for mask, other in (images, images[::-1]):
        components = sitk.ConnectedComponentImageFilter()
        components.SetFullyConnected(True)
        labels = components.Execute(mask)
        touched = np.unique(sitk.GetArrayFromImage(sitk.Multiply(labels, other)))
        shares.append((len(touched) - 1) / components.GetObjectCount())
    expected_precision, expected_recall = shares
    found = count_lesions(pred, truth)
    assert found.precision == pytest.approx(expected_precision)
    assert found.sensitivity == pytest.approx(expected_recall)
    f1 = 2 * expected_precision * expected_recall / (expected_precision + expected_recall)
    assert found.f1 == pytest.approx(f1)


def flood(mask: np.ndarray, reach: int) -> list[set[tuple[int, ...]]]:
    """Components by flood fill; neighbours differ in at most `reach` coordinates by one."""
    left, parts = {tuple(p) for p in np.argwhere(mask).tolist()}, []
    while left:
        queue, part = [left.pop()], set()
        while queue:
            voxel = queue.pop()
            part.add(voxel)
            near = {
                other
                for other in left
                if max(abs(i - j) for i, j in zip(voxel, other, strict=True)) == 1
                and sum(i != j for i, j in zip(voxel, other, strict=True)) <= reach
            }
            left -= near
            queue += near
        parts.append(part)
    return parts


def test_missed_volume_as_autopet_counts_it() -> None:
    """18 neighbours: two coordinates may differ."""
    pred, truth = random_masks(7)
    for mask, other in ((pred, truth), (truth, pred)):
        expected = sum(len(part) for part in flood(mask, 2) if not any(other[v] for v in part))
        assert missed_voxels(mask, other) == expected
    values = case_metrics(pred, truth, (2.0, 2.0, 5.0), nsd_tolerance_mm=1.0)
    assert values["fp_volume_ml"] == pytest.approx(missed_voxels(pred, truth) * 20 / 1000)
    assert values["fn_volume_ml"] == pytest.approx(missed_voxels(truth, pred) * 20 / 1000)


def test_edges_connect_and_corners_do_not_for_missed_volume() -> None:
    mask = np.zeros((3, 3, 3))
    mask[0, 0, 0] = mask[1, 1, 1] = 1  # a corner
    other = np.zeros((3, 3, 3))
    other[0, 0, 0] = 1
    assert missed_voxels(mask, other) == 1
    assert count_lesions(mask, other).predicted == 1
    mask[1, 1, 1], mask[0, 1, 1] = 0, 1  # an edge
    assert missed_voxels(mask, other) == 0
