"""Running a bundle on a study."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from differseg_med.bundle._load import find_weights, load_predictor
from differseg_med.bundle._locate import find_bundle
from differseg_med.engine import CaseOptions, CaseResult, segment_case, sha256

__all__ = ["segment"]


def segment(
    study: str | Path,
    bundle: str | Path,
    out: str | Path,
    options: CaseOptions | None = None,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    trust: bool = False,
    report: Callable[[str], None] = lambda stage: None,
) -> CaseResult:
    """Segment one study with a bundle and write the results as ``OUT/CASE/``.

    Args:
        study: a folder or archive of DICOM files, or a folder of NIfTI files named by modality.
        bundle: name or folder of the bundle.
        out: folder for all cases.
        options: how the case is read and written.
        weights: file to load instead of the bundle's own weights.
        device: such as ``cpu`` or ``cuda``.
        trust: run the configuration of a bundle that is not one of this distribution.
        report: is told the name of each stage when it begins.

    Returns:
        The case's folder and status.

    Raises:
        DifferSegError: the case failed; the code says why.
    """
    info = find_bundle(bundle)
    report("load")
    predictor = load_predictor(info, weights, device, trust=trust, progress=sys.stderr.isatty())
    path = find_weights(info, weights)
    identity = {
        "name": info.name,
        "version": info.version,
        "weights": path.name,
        "weights_sha256": sha256([path]),
        "device": device,
        "target": info.metadata.get("target"),
    }
    return segment_case(study, predictor, out, options, bundle=identity, report=report)
