"""Standardized uptake values (SUV) by body weight from the header of a PET series.

The rules follow the vendor-neutral pseudo-code of the Quantitative Imaging Biomarkers Alliance (QIBA,
qibawiki.rsna.org/index.php/Standardized_Uptake_Value_(SUV)) as open implementations of it have them, with the time of
the scan checked against the acquisition of every slice, and the midnight between injection and scan.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pydicom

from .headers import Slice, numbers
from .moments import date, date_time, has_offset, time_of_day, time_zone

_UNITS = {
    "BQML": "Bq/ml",
    "CNTS": "counts",
    "CPS": "counts/s",
    "PROPCNTS": "proportional counts",
    "PROPCPS": "proportional counts/s",
    "CM2ML": "SUVbsa cm2/ml",
}
SUV_BODY_WEIGHT = "SUVbw g/ml"
_OF_SUV_TYPE = {"BW": SUV_BODY_WEIGHT, "BSA": "SUVbsa cm2/ml", "IBW": "SUVibw g/ml", "": SUV_BODY_WEIGHT}
_LEAN = "SUVlbm g/ml"
# No injection is below this, also not in a mouse; smaller numbers are in MBq or mCi.
_LEAST_DOSE_BQ = 1e5
_HEAVIEST_KG = 500.0
# After these the activity cannot be measured: a date is wrong.
_MOST_HALF_LIVES = 10.0
_SAME_START_SECONDS = 60.0
_SAME_FACTOR = 1e-4
_LONGEST_MS = 1e9  # of a scan: days


class _LackingError(Exception):
    """Why values cannot be converted, as the end of a sentence."""


@dataclass(frozen=True)
class PetUnits:
    """What the values of a PET are, and how they become so.

    Attributes:
        units: of the values after multiplication, such as "SUVbw g/ml".
        factor: for the rescaled values; 1 if they stay as they are.
        said: a sentence after the name of the volume.
    """

    units: str
    factor: float
    said: str


def pet_units(slices: list[Slice]) -> PetUnits | None:
    """Return the conversion of a series to SUV by body weight; None if it is no PET.

    Args:
        slices: of the whole series, since the earliest of them tells when the scan began.

    Returns:
        For Units BQML, SUV = value (Bq/ml) x weight (g) / dose (Bq), with the dose decayed to the start of the scan
        if the values are corrected to it (DecayCorrection START), and as injected if they are corrected to the
        injection (ADMIN). For CNTS, the factor to SUV or to Bq/ml that Philips stores. GML and CM2ML are SUV already.
        If something is missing or impossible, the values keep their units and the sentence says why.
    """
    if slices[0].text("Modality") != "PT":
        return None
    stored = slices[0].text("Units").upper()
    if stored in ("GML", "CM2ML"):
        kind = slices[0].text("SUVType").upper() or ("BSA" if stored == "CM2ML" else "")
        units = _LEAN if kind.startswith("LBM") else _OF_SUV_TYPE.get(kind, f"SUV ({kind[:16]})")
        return PetUnits(units, 1.0, f"is a PET in {units}.")
    units = _UNITS.get(stored, stored[:16]) or "unknown units"
    try:
        factor, how = _conversion(slices, stored)
    except _LackingError as error:
        return PetUnits(units, 1.0, f"is a PET in {units} and was not converted to SUV: {error}.")
    said = (
        f"is a PET in {units} and was converted to SUV by body weight (g/ml), 1 {units} = {factor:.5g} g/ml: {how}."
    )
    return PetUnits(SUV_BODY_WEIGHT, factor, said)


def _conversion(slices: list[Slice], stored: str) -> tuple[float, str]:
    """Return the factor to SUV, and what it was computed from."""
    if stored == "CNTS":
        given = _same(slices, "PhilipsSUVScale")
        if given:
            return given, "the factor stored by Philips"
        to_activity = _same(slices, "PhilipsActivityScale")
        if not to_activity:
            msg = "the factor that Philips stores for counts (7053,1000 or 7053,1009) is missing"
            raise _LackingError(msg)
    elif stored == "BQML":
        to_activity = 1.0
    else:
        msg = "only Bq/ml and the counts of Philips can be converted" if stored else "Units (0054,1001) is missing"
        raise _LackingError(msg)
    return _by_body_weight(slices, to_activity)


def _same(slices: list[Slice], keyword: str) -> float | None:
    """Return a positive number that all slices share; None if it is missing everywhere."""
    found = [item.numbers(keyword, 1) for item in slices]
    values = [float(value[0]) for value in found if value is not None and value[0] > 0]
    if not values:
        return None
    if len(values) < len(slices) or max(values) - min(values) > _SAME_FACTOR * max(values):
        msg = f"{keyword} is not the same in all slices"
        raise _LackingError(msg)
    return values[0]


def _by_body_weight(slices: list[Slice], to_activity: float) -> tuple[float, str]:
    first = slices[0]
    corrections = first.text("CorrectedImage").upper().split("\\")
    if "ATTN" not in corrections or "DECY" not in corrections:
        msg = "it is not corrected for attenuation and decay (CorrectedImage lacks ATTN or DECY)"
        raise _LackingError(msg)
    drug = _injection(first)
    weight = _number(first.values, "PatientWeight", lambda kg: 0 < kg < _HEAVIEST_KG, "kg")
    dose = _number(drug, "RadionuclideTotalDose", lambda becquerels: becquerels >= _LEAST_DOSE_BQ, "Bq")
    reference = first.text("DecayCorrection").upper()
    how = f"{weight:g} kg, {dose / 1e6:.4g} MBq"
    if reference == "ADMIN":
        return to_activity * 1000 * weight / dose, f"{how}, decay corrected to the injection"
    if reference != "START":
        msg = f"DecayCorrection is '{reference[:16]}', not START or ADMIN"
        raise _LackingError(msg)
    half_life = _number(drug, "RadionuclideHalfLife", lambda seconds: seconds >= 1, "s")
    begun, source = _scan_start(slices, half_life)
    seconds = (begun - _injected(drug, begun, time_zone(first.values))).total_seconds()
    if not 0 <= seconds <= _MOST_HALF_LIVES * half_life:
        msg = (
            f"the injection would be {seconds / 60:.4g} min before the scan, which cannot be with a half-life of "
            f"{half_life / 60:.4g} min; check the dates"
        )
        raise _LackingError(msg)
    decayed = dose * 2 ** (-seconds / half_life)
    return to_activity * 1000 * weight / decayed, f"{how} {seconds / 60:.4g} min before the scan ({source})"


def _injection(item: Slice) -> Mapping[str, Any]:
    """Return the tags of the injected drug."""
    given = item.values.get("RadiopharmaceuticalInformationSequence")
    if not isinstance(given, pydicom.Sequence) or len(given) != 1:
        what = "there are several injections" if given else "the injection is missing"
        msg = f"{what} (RadiopharmaceuticalInformationSequence)"
        raise _LackingError(msg)
    return {element.keyword: element.value for element in given[0]}


def _number(values: Mapping[str, Any], keyword: str, is_possible: Callable[[float], bool], unit: str) -> float:
    if values.get(keyword) in (None, ""):
        msg = f"{keyword} is missing"
        raise _LackingError(msg)
    found = numbers(values.get(keyword), 1)
    if found is None or not is_possible(float(found[0])):
        msg = f"{keyword} is {values.get(keyword)}, which is not possible in {unit}"
        raise _LackingError(msg)
    return float(found[0])


def _injected(drug: Mapping[str, Any], begun: datetime.datetime, zone: datetime.tzinfo | None) -> datetime.datetime:
    """Return when the drug was injected, in the local time of the scan.

    A time without a date is the last one before the scan. It is also taken where the date and time have an offset
    from UTC and the time zone of the scan is not known.
    """
    moment = date_time(drug, "RadiopharmaceuticalStartDateTime", zone)
    is_elsewhere = zone is None and has_offset(drug, "RadiopharmaceuticalStartDateTime")
    if moment is not None and not is_elsewhere:
        return moment
    time = time_of_day(drug, "RadiopharmaceuticalStartTime")
    if time is None and is_elsewhere:
        msg = "the time of the injection has an offset from UTC, but the scan has none (TimezoneOffsetFromUTC)"
        raise _LackingError(msg)
    if time is None:
        msg = (
            "the time of the injection is missing (RadiopharmaceuticalStartDateTime or RadiopharmaceuticalStartTime)"
        )
        raise _LackingError(msg)
    moment = datetime.datetime.combine(begun.date(), time)
    return moment if moment <= begun else moment - datetime.timedelta(days=1)


def _scan_start(slices: list[Slice], half_life: float) -> tuple[datetime.datetime, str]:
    """Return the moment to which the values are corrected, and the tag that tells it.

    It is the time of the series, unless that is later than an acquisition, as after processing. Then it is GE's own
    time of the scan, or computed back from the middle of the counts of each slice, or the first acquisition.
    """
    acquired = [_acquired(item) for item in slices]
    moments = [moment for moment in acquired if moment is not None]
    if len(moments) < len(slices):
        msg = "the time of the scan is missing (AcquisitionDate and AcquisitionTime)"
        raise _LackingError(msg)
    values = slices[0].values
    day, time = date(values, "SeriesDate"), time_of_day(values, "SeriesTime")
    if day is not None and time is not None and datetime.datetime.combine(day, time) <= min(moments):
        return datetime.datetime.combine(day, time), "SeriesTime"
    of_ge = date_time(values, "GEScanDateTime", time_zone(values))
    if of_ge is not None and of_ge <= min(moments):
        return of_ge, "time of the scan by GE"
    begins = [_start_of(item, moment, half_life) for item, moment in zip(slices, moments, strict=True)]
    found = [begin for begin in begins if begin is not None]
    if len(found) == len(slices) and (max(found) - min(found)).total_seconds() <= _SAME_START_SECONDS:
        return min(found), "from FrameReferenceTime"
    return min(moments), "first AcquisitionTime, since SeriesTime is later or missing"


def _acquired(item: Slice) -> datetime.datetime | None:
    day, time = date(item.values, "AcquisitionDate"), time_of_day(item.values, "AcquisitionTime")
    if day is None or time is None:
        return date_time(item.values, "AcquisitionDateTime", time_zone(item.values))
    return datetime.datetime.combine(day, time)


def _start_of(item: Slice, acquired: datetime.datetime, half_life: float) -> datetime.datetime | None:
    """Return the start of the scan by one slice, whose average count rate is reached FrameReferenceTime after it."""
    reference, duration = item.numbers("FrameReferenceTime", 1), item.numbers("ActualFrameDuration", 1)
    if reference is None or duration is None:
        return None
    if not (0 < reference[0] < _LONGEST_MS and 0 < duration[0] < _LONGEST_MS):
        return None
    decay = math.log(2) / half_life
    in_frame = decay * float(duration[0]) / 1000
    average = math.log(in_frame / -math.expm1(-in_frame)) / decay
    return acquired + datetime.timedelta(seconds=average - float(reference[0]) / 1000)
