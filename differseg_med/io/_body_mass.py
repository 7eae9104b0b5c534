"""Body masses that SUVs are normalised by, to turn one kind of SUV into another."""

from __future__ import annotations

from differseg_med.errors import StudyError

__all__ = ["SUV_BODY_WEIGHT", "lean_mass_kg"]

SUV_BODY_WEIGHT = "BW"


def lean_mass_kg(kind: str, weight_kg: float, height_m: float, sex: str) -> float | None:
    """The mass that a DICOM SUVType divides by, None for a type that is no mass.

    ``LBM`` is James's formula as the standard had it first (120 for men), ``LBMJAMES128`` the
    corrected one, ``LBMJANMA`` Janmahasatian et al. 2005, ``IBW`` Sugawara et al. 1999.

    Args:
        kind: SUVType.
        weight_kg: body weight.
        height_m: body height.
        sex: ``M`` or ``F``.

    Raises:
        StudyError: ``E_PET_META`` when height or sex are not given or give no mass.
    """
    if kind not in ("LBM", "LBMJAMES128", "LBMJANMA", "IBW"):
        return None
    if not 0.2 < height_m < 3 or sex not in ("M", "F"):
        raise StudyError("E_PET_META", f"SUVType {kind} needs the patient's height and sex")
    male = sex == "M"
    if kind == "LBMJANMA":
        bmi = weight_kg / height_m**2
        mass = 9270 * weight_kg / (6680 + 216 * bmi if male else 8780 + 244 * bmi)
    elif kind == "IBW":
        mass = (48.0 if male else 45.5) + (1.06 if male else 0.91) * (100 * height_m - 152)
    else:
        ratio = (weight_kg / (100 * height_m)) ** 2
        heavy = 128 if kind == "LBMJAMES128" else 120
        mass = 1.10 * weight_kg - heavy * ratio if male else 1.07 * weight_kg - 148 * ratio
    if mass <= 0:
        raise StudyError("E_PET_META", f"height and weight give no mass for SUVType {kind}")
    return mass
