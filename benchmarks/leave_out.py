"""What a modality's weight in a mask says, against what leaving the modality out does.

    OMP_NUM_THREADS=1 python benchmarks/leave_out.py STUDY... [--bundle sts_petctmr]

For each study (DICOM, or NIfTI named by modality) and the bundle's shipped weights: the mean
weight of every modality inside the mask, on the work grid, and the Dice of the whole result with
the result without each optional modality. Prints the table of docs/explanation/contributions.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from differseg_med.engine import tune_process

tune_process()  # before torch is imported
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.case_quality.conditions import without  # noqa: E402
from differseg_med.bundle import find_bundle, load_predictor  # noqa: E402
from differseg_med.data import stack_on_reference  # noqa: E402
from differseg_med.engine import ReadOptions, Wanted, predict, read_inputs  # noqa: E402
from differseg_med.engine._predict import explain  # noqa: E402
from differseg_med.metrics import dice  # noqa: E402


def main() -> None:
    """One row per study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--bundle", default="sts_petctmr")
    chosen = parser.parse_args()
    info = find_bundle(chosen.bundle)
    predictor = load_predictor(info)
    wanted = Wanted(info.modalities, info.required, info.reference, info.min_overlap)
    optional = [name for name in info.modalities if name not in info.required]
    out = sys.stdout.write
    out(f"| study | weight in the mask: {', '.join(info.modalities)} ")
    out(
        "".join(f"| Dice without {name} " for name in optional)
        + f"|\n|{'-|' * (2 + len(optional))}\n"
    )
    for study in chosen.studies:
        inputs = read_inputs(study, wanted, ReadOptions())
        stack = stack_on_reference(
            inputs.volumes,
            info.modalities,
            info.reference,
            spacing=info.spacing,
            min_overlap=info.min_overlap,
        )
        probability, maps = explain(stack, predictor)
        mask = probability.array >= 0.5
        weights = ", ".join(f"{maps[name].array[mask].mean():.2f}" for name in info.modalities)
        cells = []
        for name in optional:
            left = without(stack, name)
            part = None if left is None else predict(left, predictor).array >= 0.5
            cells.append("-" if part is None else f"{dice(part, mask):.2f}")
        out(f"| {study.name.split('.')[0]} | {weights} | {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
