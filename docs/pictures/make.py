"""Write the pictures of the documentation again.

    make pictures [STUDIES=DIR]

Needs the development extra and the packages chromium and chromium-driver. `DIR` holds the studies
`sts_008.zip` and `sts_012.zip` of the collection Soft-tissue-Sarcoma (CC BY 3.0; whom to name
stands in `docs/pictures/README.md`). Without it every picture shows a phantom.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from differseg_med.bundle import segment
from differseg_med.data.phantom import write_phantom_dicom
from differseg_med.engine import CaseOptions

HERE = Path(__file__).parent
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
)
SHOW = """
for (const [id, value] of Object.entries(arguments[0])) {
  const input = document.getElementById(id);
  input.value = value;
  input.dispatchEvent(new Event(input.tagName === 'SELECT' ? 'change' : 'input'));
}
const done = arguments[1];
requestAnimationFrame(() => requestAnimationFrame(() => done()));
"""
REPORTS: dict[str, tuple[int, str, dict[str, object]]] = {
    "report-light.png": (0, "light", {"image": "ct"}),
    "report-dark.png": (1, "dark", {"image": "ct", "contribution": "pet", "opacity": 45}),
}
"""By picture the number of the study, the colour scheme and what is chosen on the page."""

COLOURS, MOST_BYTES = 256, 300_000


def main() -> None:
    """Segment two studies, then photograph their reports and copy their montages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=Path)
    folder = parser.parse_args().studies
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        cases = [segment_one(study, scratch / "out") for study in find(folder, scratch)]
        for number, case in enumerate(cases, 1):
            with Image.open(case / "montage.png") as montage:
                save(montage.copy(), HERE / f"montage-{number}.png")
        for file, (number, scheme, choices) in REPORTS.items():
            shot = photograph(cases[number] / "report.html", scheme, choices, scratch / file)
            save(shot, HERE / file)


def find(folder: Path | None, scratch: Path) -> list[Path]:
    """The two studies: real ones where they are, else phantoms."""
    if folder is not None:
        return [folder / "sts_008.zip", folder / "sts_012.zip"]
    studies = [scratch / f"phantom_{seed}" for seed in (1, 3)]
    for study, seed in zip(studies, (1, 3), strict=True):
        write_phantom_dicom(study, seed)
    return studies


def segment_one(study: Path, out: Path) -> Path:
    """Folder of the study's results."""
    return segment(study, "sts_petctmr", out, CaseOptions(formats=("png", "html"))).folder


def photograph(
    page: Path, scheme: str, choices: Mapping[str, object], profile: Path
) -> Image.Image:
    """The upper part of a page, from its heading to the end of the contributions."""
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver: Any = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        driver.get(page.as_uri())
        ready = "return document.documentElement.dataset.ready === 'yes'"
        WebDriverWait(driver, 60).until(lambda d: d.execute_script(ready))
        driver.execute_async_script(SHOW, dict(choices))
        end = "return document.querySelector('[aria-labelledby=contributions]')"
        bottom = driver.execute_script(f"{end}.getBoundingClientRect().bottom + 16")
        clip = {"x": 0, "y": 0, "width": 1265, "height": bottom, "scale": 1}
        taken = driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
    finally:
        driver.quit()
    return Image.open(io.BytesIO(base64.b64decode(taken["data"])))


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture with few colours, which takes a third of the space."""
    few = picture.convert("RGB").quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{path.name} has {size} bytes, at most {MOST_BYTES} are wanted")
    sys.stdout.write(f"{path.name}: {size // 1000} kB\n")


if __name__ == "__main__":
    main()
