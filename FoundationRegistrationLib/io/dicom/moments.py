"""Dates and times of DICOM tags, in the local time of the scanner. Dates before 1900 are taken as invalid."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from pydicom.valuerep import DA, DT, TM

_FIRST_YEAR = 1900


def date_time(
    values: Mapping[str, Any], keyword: str, zone: datetime.tzinfo | None = None
) -> datetime.datetime | None:
    """Return a date-time tag (VR DT), without a time zone; None if it is absent or invalid.

    Args:
        values: tags by keyword.
        keyword: of the tag.
        zone: time zone of the scanner, to which a time with an offset from UTC is converted; without it, the offset
            is dropped.
    """
    try:
        found = DT(str(values[keyword]).strip()) if values.get(keyword) else None
        if found is None or found.year < _FIRST_YEAR:
            return None
        moment = datetime.datetime.combine(found.date(), found.timetz())
        return (moment if zone is None or moment.tzinfo is None else moment.astimezone(zone)).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def has_offset(values: Mapping[str, Any], keyword: str) -> bool:
    """Whether a valid date-time tag (VR DT) says its offset from UTC."""
    return date_time(values, keyword) is not None and DT(str(values[keyword]).strip()).tzinfo is not None


def time_zone(values: Mapping[str, Any]) -> datetime.tzinfo | None:
    """Return the time zone of the times of a header that have no offset of their own; None if it is not said."""
    try:
        return datetime.datetime.strptime(str(values.get("TimezoneOffsetFromUTC", "")).strip(), "%z").tzinfo
    except ValueError:
        return None


def utc_offset(values: Mapping[str, Any], keyword: str) -> datetime.timedelta | None:
    """Return the offset from UTC of a tag with a time: its own, or that of the header; None if neither is said."""
    has_own = keyword.endswith("DateTime") and has_offset(values, keyword)
    zone = DT(str(values[keyword]).strip()).tzinfo if has_own else time_zone(values)
    return None if zone is None else zone.utcoffset(None)


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
