"""The report page: what stands in it, and what must never."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch

from differseg_med.engine import CaseOptions, Results, segment_case
from differseg_med.engine._case import CaseRun
from differseg_med.engine._page import write_page
from differseg_med.engine._report import write_report
from differseg_med.engine._report_pictures import MOST_CHARACTERS, Picture, make_scene
from differseg_med.errors import OutputError
from differseg_med.geometry import Grid, Volume

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\"'"


class Even:
    """Foreground where the PET is above 3; both images count the same."""

    modalities = ("pet", "ct", "mr_t1")
    required = ("pet",)
    reference = "pet"
    spacing = (4.0, 4.0, 4.0)
    window = (16, 16, 16)
    min_overlap = {"mr_t1": 0.01}  # noqa: RUF012 - stands for an instance's attribute

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(4 * (image[:, :1] - 3))


def decode(picture: Picture) -> np.ndarray:
    """What the page's script does, in other words."""
    flat = np.frombuffer(zlib.decompress(base64.b64decode(picture.data)), np.uint8)
    width, height, depth = picture.shape
    rows = flat.reshape(depth, height, width)
    return np.cumsum(rows, axis=2, dtype=np.uint8).transpose(2, 1, 0)


class Reader(HTMLParser):
    """Tags with their attributes, and the page's text without scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in {"script", "style"}:
            self.text.append(data)


@pytest.fixture(scope="module")
def results(nifti_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    options = CaseOptions(formats=("html",))
    run = CaseRun(nifti_study, Even(), options, {"name": "even", "version": "1", "target": None})
    return run.compute(run.prepare(tmp_path_factory.mktemp("scratch")))


def test_pictures_show_the_volumes_by_place(results: Results) -> None:
    """A bright block at the patient's right, back and head, in a grid that runs the other way."""
    grid = Grid(
        (20, 10, 8), np.array([[0, -2, 0, 18], [-1, 0, 0, 19], [0, 0, 3, 0], [0, 0, 0, 1.0]])
    )
    array = np.full(grid.shape, -1000, np.float32)
    mask = np.zeros(grid.shape, np.uint8)
    array[15:20, 0:3, 6:8] = 500  # first axis: to the back; second: to the left
    mask[17, 1, 7] = 1
    scene = make_scene({"ct": Volume(array, grid, "ct"), "pet": None}, Volume(mask, grid))
    assert scene.size_mm == (20.0, 20.0, 24.0)
    assert scene.images.keys() == {"ct"}
    gray = decode(scene.images["ct"])
    assert gray.shape == (10, 20, 8)
    expected = np.zeros((10, 20, 8), np.uint8)
    expected[7:10, 0:5, 6:8] = 255
    np.testing.assert_array_equal(gray, expected)
    assert np.argwhere(decode(scene.mask)).tolist() == [[8, 2, 7]]
    assert scene.center == (8, 2, 7)


def test_large_volumes_shrink_to_means_and_no_voxel_of_the_mask_gets_lost() -> None:
    grid = Grid((600, 8, 6), np.diag([1.0, 1.0, 1.0, 1.0]))
    ramp = np.broadcast_to(np.arange(600, dtype=np.float32)[:, None, None], grid.shape)
    mask = np.zeros(grid.shape, np.uint8)
    mask[[0, 299, 599], [0, 3, 7], [0, 2, 5]] = 1
    values = Volume(ramp / 60.0, grid, "pet")  # 0 to 10 g/ml is black to white
    scene = make_scene({"pet": values}, Volume(mask, grid))
    gray = decode(scene.images["pet"])
    assert gray.shape[0] == 256
    centers = (np.arange(256) + 0.5) / 256 * 600 - 0.5
    shown = gray[2:-2].mean(axis=(1, 2))
    np.testing.assert_allclose(shown, (centers / 600 * 255)[2:-2], atol=1.5)
    small = decode(scene.mask)
    assert small.sum() == 3
    assert small[0].any()
    assert small[127].any()
    assert small[255].any()


def test_a_page_stays_small_whatever_it_shows() -> None:
    """Noise is what compresses least."""
    rng = np.random.default_rng(0)
    grid = Grid((240, 240, 200), np.diag([1.0, 1.0, 1.0, 1.0]))
    noise = Volume(rng.random(grid.shape, np.float32) * 10, grid)
    empty = Volume(np.zeros(grid.shape, np.uint8), grid)
    scene = make_scene({"pet": noise, "ct": noise}, empty)
    total = sum(len(picture.data) for picture in scene.images.values())
    assert 0.4 * MOST_CHARACTERS < total <= MOST_CHARACTERS


def test_the_page_is_complete_in_itself(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(results, path)
    page = path.read_text("utf-8")
    reader = Reader(page)
    for tag, attributes in reader.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            link = attributes.get(name)
            assert link is None or link.startswith("#") or link == "data:,", (tag, link)
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    policy = next(a["content"] for t, a in reader.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for body in re.findall(r"<script>(.*?)</script>|<style>(.*?)</style>", page, re.DOTALL):
        digest = hashlib.sha256("".join(body).encode()).digest()
        assert base64.b64encode(digest).decode() in policy
    text = " ".join(reader.text)
    assert "Research use only" in text
    assert "does not tell which modality drove which voxel" in text


def test_the_tables_say_what_was_measured(results: Results, tmp_path: Path) -> None:
    write_report(results, tmp_path / "report.html")
    text = " ".join(" ".join(Reader((tmp_path / "report.html").read_text("utf-8")).text).split())
    target = results.measurements.target
    assert f"Volume {target.volume_ml:.2f} ml" in text
    assert f"Lesions {len(results.measurements.lesions)}" in text
    for finding in results.record["findings"]:
        assert finding["code"] in text
        assert finding["detail"] in text
    for described in results.record["input"]["modalities"].values():
        assert described["sha256"] in text


def test_text_that_looks_like_html_stays_text(results: Results, tmp_path: Path) -> None:
    record = json.loads(json.dumps(results.record))
    record["findings"] = [{"code": "W_FOV", "detail": HOSTILE}]
    record["input"]["modalities"]["pet"]["provenance"] = {HOSTILE: HOSTILE}
    record["bundle"] = {"name": HOSTILE, "target": {"label": HOSTILE}}
    spoiled = dataclasses.replace(results, record=record, bundle=record["bundle"], case=HOSTILE)
    write_report(results, tmp_path / "plain.html")
    write_report(spoiled, tmp_path / "report.html")
    plain, reader = (
        Reader((tmp_path / name).read_text("utf-8")) for name in ("plain.html", "report.html")
    )
    assert HOSTILE in " ".join(reader.text)
    for kind in ("script", "img", "style"):
        counts = [sum(tag == kind for tag, _ in page.tags) for page in (plain, reader)]
        assert counts[0] == counts[1]
    assert all(not name.startswith("on") for _, a in reader.tags for name in a)


def test_a_healthy_study_without_findings_has_a_report(results: Results, tmp_path: Path) -> None:
    empty = Volume(np.zeros_like(results.mask.array), results.mask.grid)
    record = {**results.record, "findings": []}
    write_report(dataclasses.replace(results, mask=empty, record=record), tmp_path / "r.html")
    text = " ".join(" ".join(Reader((tmp_path / "r.html").read_text("utf-8")).text).split())
    assert "Volume 0.00 ml" in text
    assert "None." in text


def test_a_page_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError, match=r"E_WRITE: report\.html"):
        write_page(tmp_path / "report.html", "page")
    with pytest.raises(OutputError, match="E_WRITE"):
        write_page(tmp_path / "nowhere/report.html", "page")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_case_gets_a_report_by_option(nifti_study: Path, tmp_path: Path) -> None:
    result = segment_case(nifti_study, Even(), tmp_path, CaseOptions(formats=("html",)))
    assert set(result.status["outputs"]) == {"report.html"}


def test_nothing_on_the_page_names_a_patient(
    dicom_study: tuple[Path, object], tmp_path: Path
) -> None:
    """Canaries in identity tags and in free text, UIDs and paths."""
    study = tmp_path / "CanaryFolder"
    shutil.copytree(dicom_study[0], study)
    tags = ("PatientName", "PatientID", "SeriesDescription", "StudyDescription", "InstitutionName")
    for path in study.rglob("*.dcm"):
        header = pydicom.dcmread(path)
        for tag in tags:
            setattr(header, tag, "CanaryText")
        header.PatientBirthDate = "19551122"
        header.save_as(path)
    options = CaseOptions(formats=("html",), case="one")
    page = (segment_case(study, Even(), tmp_path, options).folder / "report.html").read_text(
        "utf-8"
    )
    shown = re.sub(r'"data": "[^"]*"', "", page)
    assert "How FDG PET was read" in shown
    for canary in ("Canary", "19551122", str(tmp_path)):
        assert canary not in shown
    assert not re.search(r"\b\d+(\.\d+){5,}\b", shown)
