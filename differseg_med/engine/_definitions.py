"""What every measurement means, declared once: key, unit, coded concept, definition.

The keys of ``measurements.json``, the columns of ``measurements.csv``, the concepts of the
structured report and the page of definitions all come from here.
"""

from __future__ import annotations

from dataclasses import dataclass

from differseg_med.modality import MODALITIES, Modality

__all__ = [
    "LESION_COUNT",
    "REGION",
    "STATISTICS",
    "UNIT_NAMES",
    "Definition",
    "measurements_page",
    "quantity",
    "unit_code",
]

Code = tuple[str, str, str]
"""Code value, coding scheme designator, code meaning."""


@dataclass(frozen=True)
class Definition:
    """One measurement.

    Attributes:
        key: its name in JSON; the end of its name in CSV.
        text: what it is.
        unit: UCUM code; None where it has none.
        concept: coded concept in the structured report; None where it is not in there, or where the
            modality says it.
        derivation: coded derivation in the structured report.
    """

    key: str
    text: str
    unit: str | None = None
    concept: Code | None = None
    derivation: Code | None = None


LESION_COUNT = Definition(
    "lesion_count",
    "Number of lesions: connected parts of the mask, where voxels that share a face, an edge or a "
    "corner belong together (26-connectivity). None is left out for being small.",
    "1",
    ("246206008", "SCT", "Number of lesions"),
)

REGION: tuple[Definition, ...] = (
    Definition("number", "1 for the largest lesion by volume, and so on; null for the target."),
    Definition("voxels", "Number of voxels on the reference grid."),
    Definition(
        "volume_ml",
        "Number of voxels times the volume of one voxel (determinant of the affine, so right for a "
        "tilted gantry, too).",
        "ml",
        ("118565006", "SCT", "Volume"),
    ),
    Definition(
        "longest_axial_diameter_mm",
        "Longest distance between two points of the outline of one connected part of one slice of "
        "the reference, over all its slices: the longest diameter in the plane of acquisition "
        "(RECIST 1.1, doi:10.1016/j.ejca.2008.10.026). The outline runs half way between voxel "
        "centres inside and outside. Of the target: that of the lesion with the longest.",
        "mm",
        ("103339001", "SCT", "Long Axis"),
    ),
    Definition(
        "perpendicular_diameter_mm",
        "Longest line at a right angle to it, in the same slice, inside the convex hull of the "
        "same outline: the second diameter of the WHO's bidimensional measurement (Miller et al., "
        "Cancer 47:207, 1981).",
        "mm",
        ("131189007", "SCT", "Perpendicular Axis"),
    ),
    Definition(
        "diameter_slice",
        "Index, from 0, of the slice that both diameters lie in, along the reference grid's third "
        "axis.",
    ),
    Definition("longest_ends_lps_mm", "Both ends of the longest diameter, LPS.", "mm"),
    Definition("perpendicular_ends_lps_mm", "Both ends of its perpendicular, LPS.", "mm"),
    Definition("centroid_lps_mm", "Mean of the voxel centres, LPS.", "mm"),
    Definition(
        "inner_point_lps_mm",
        "The voxel centre nearest to the centroid, LPS; unlike the centroid always inside.",
        "mm",
    ),
    Definition(
        "bounding_box_index",
        "First voxel, and the one after the last, along each axis of the reference grid.",
    ),
    Definition(
        "bounding_box_lps_mm",
        "Least and greatest coordinate of the voxels with their whole extent, LPS.",
        "mm",
    ),
    Definition(
        "touches_border",
        "Whether a voxel lies in the outermost layer of the reference, so that part of the lesion "
        "may lie outside. An axis of one voxel does not count.",
    ),
)

STATISTICS: tuple[Definition, ...] = (
    Definition("voxels", "Voxels of the region inside the modality's field of view."),
    Definition(
        "outside",
        "Voxels of the region outside of it: beyond the outer faces of the modality's voxels. They "
        "are left out of everything below.",
    ),
    Definition("mean", "Mean of the values.", derivation=("373098007", "SCT", "Mean")),
    Definition("sd", "Standard deviation with n - 1; null for fewer than two voxels."),
    Definition("min", "Least value."),
    Definition("median", "Middle value; the mean of the two middle ones of an even number."),
    Definition("max", "Greatest value.", derivation=("56851009", "SCT", "Maximum")),
    Definition(
        "suv_peak",
        "SUVpeak, PET only: greatest mean of a sphere of 1 mL (radius 6.2 mm) whose centre is the "
        "centre of a voxel of the region (PERCIST, doi:10.2967/jnumed.108.057307). Voxels count by "
        "the part of them inside the sphere, in 9 x 9 x 9 parts each. The sphere may reach out of "
        "the lesion; where it reaches out of the image the mean is over the part within. Taken on "
        "the PET's own grid.",
        "g/ml{SUVbw}",
        derivation=("126031", "DCM", "Peak Value Within ROI"),
    ),
    Definition(
        "tlg_g",
        "Total lesion glycolysis, PET only: mean SUV times volume in mL inside the field of view "
        "(Larson et al., Clinical Positron Imaging 2:159, 1999).",
        "g",
        ("126033", "DCM", "Total Lesion Glycolysis"),
    ),
)

UNIT_NAMES = {"g/ml{SUVbw}": "suvbw", "[hnsf'U]": "hu", "um2/s": "um2_s", "1": "au"}
"""How a unit is written in the name of a column; ``au`` are the image's own, arbitrary units."""

_UNIT_MEANINGS = {
    "1": "no units",
    "g": "gram",
    "g/ml{SUVbw}": "Standardized Uptake Value body weight",
    "[hnsf'U]": "Hounsfield unit",
    "ml": "milliliter",
    "mm": "millimeter",
    "um2/s": "um2/s",
}

_QUANTITIES: dict[str, Code] = {
    "g/ml{SUVbw}": ("126401", "DCM", "SUVbw"),
    "[hnsf'U]": ("112031", "DCM", "Attenuation Coefficient"),
    "um2/s": ("113041", "DCM", "Apparent Diffusion Coefficient"),
}
_MR_SIGNAL: Code = ("110852", "DCM", "MR signal intensity")


def quantity(modality: Modality) -> Code | None:
    """What the values of a modality are, as a coded concept; None where there is no code.

    Args:
        modality: what the image shows.
    """
    return _QUANTITIES.get(modality.unit) or (_MR_SIGNAL if modality.dicom == "MR" else None)


def unit_code(unit: str) -> Code:
    """A unit as a coded concept.

    Args:
        unit: UCUM code.
    """
    return unit, "UCUM", _UNIT_MEANINGS[unit]


_PAGE_HEAD = """# Measurements

What `measurements.json`, `measurements.csv`, the structured report and the HTML report say about a
mask: once for the whole target, and once for each lesion. Lengths are in patient space (LPS:
towards the patient's left, back and head), so they hold for oblique and tilted series.

This page is made from the table of definitions by `make bundles`; do not edit it by hand. Codes are
those of DICOM PS3.16 (context groups 7464, 7466 and 7469) and SNOMED CT as DICOM uses it; units are
UCUM.
"""

_PAGE_VALUES = """
## Values of a modality

Values are taken at the centres of the region's voxels on the reference grid, by linear
interpolation on the modality's own grid, without smoothing; where both grids are the same, voxel by
voxel. A modality that is absent is null. One that was registered to the reference is taken where it
was moved to.
"""


def measurements_page() -> str:
    """The reference page of all measurements, in Markdown."""
    units = {m.unit: ", ".join(_sharing(m)) for m in MODALITIES.values()}
    quantities = {m.unit + (m.dicom or ""): (m.unit, quantity(m)) for m in MODALITIES.values()}
    rows = [f"| `{unit}` | `{UNIT_NAMES[unit]}` | {names} |\n" for unit, names in units.items()]
    said = dict.fromkeys((unit, code) for unit, code in quantities.values() if code)
    return "".join(
        [
            _PAGE_HEAD,
            "\n## Of a case\n\n",
            *_table([LESION_COUNT]),
            "\n## Of the target and of each lesion\n\n",
            *_table(REGION),
            _PAGE_VALUES,
            "\n",
            *_table(STATISTICS),
            "\nThe unit is the modality's; `suv_peak` and `tlg_g` have their own.\n\n",
            "| unit | in column names | modalities |\n|-|-|-|\n",
            *rows,
            "\n| unit | quantity in the structured report |\n|-|-|\n",
            *(f"| `{unit}` | {_shown(code)} |\n" for unit, code in said),
        ]
    )


def _sharing(modality: Modality) -> list[str]:
    return [f"`{other.name}`" for other in MODALITIES.values() if other.unit == modality.unit]


def _table(rows: tuple[Definition, ...] | list[Definition]) -> list[str]:
    lines = ["| key | unit | code | definition |\n|-|-|-|-|\n"]
    for row in rows:
        unit = f"`{row.unit}`" if row.unit else ""
        codes = "; ".join(_shown(code) for code in (row.concept, row.derivation) if code)
        lines.append(f"| `{row.key}` | {unit} | {codes} | {row.text} |\n")
    return lines


def _shown(code: Code) -> str:
    value, scheme, meaning = code
    return f"{meaning} ({value}, {scheme})"
