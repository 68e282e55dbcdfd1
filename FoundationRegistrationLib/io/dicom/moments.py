"""Dates and times of DICOM tags, in the local time of the scanner. Dates before 1900 are taken as invalid."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from pydicom.valuerep import DA, DT, TM

_FIRST_YEAR = 1900


def date_time(values: Mapping[str, Any], keyword: str) -> datetime.datetime | None:
    """Return a date-time tag (VR DT) without its time zone; None if it is absent or invalid."""
    try:
        found = DT(str(values[keyword]).strip()) if values.get(keyword) else None
    except ValueError:
        return None
    return (
        datetime.datetime.combine(found.date(), found.time())
        if found is not None and found.year >= _FIRST_YEAR
        else None
    )


def time_of_day(values: Mapping[str, Any], keyword: str) -> datetime.time | None:
    """Return a time tag (VR TM); None if it is absent or invalid."""
    try:
        found = TM(str(values[keyword]).strip()) if values.get(keyword) else None
    except ValueError:
        return None
    return None if found is None else datetime.time(found.hour, found.minute, found.second, found.microsecond)


def date(values: Mapping[str, Any], keyword: str) -> datetime.date | None:
    """Return a date tag (VR DA); None if it is absent or invalid."""
    try:
        found = DA(str(values[keyword]).strip()) if values.get(keyword) else None
    except ValueError:
        return None
    return (
        datetime.date(found.year, found.month, found.day) if found is not None and found.year >= _FIRST_YEAR else None
    )
