"""Opens a finished cohort that is dropped onto Slicer: its `pairs.csv`, in the Batch section."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import slicer.util
from FoundationRegistrationBridge.cohort.results import is_cohort_table
from slicer.i18n import tr as _

_LOGGER = logging.getLogger(__name__)
_MODULE = "FoundationRegistration"
_SURE = 0.9  # Slicer's own reader of tables says about 0.5 for a CSV file


class FoundationRegistrationFileReader:
    """Reader of `pairs.csv`, in the protocol of Slicer's scripted file readers: the names of its methods are given.

    Slicer makes it by its name, from the module's file. Every other CSV file is left to Slicer's tables.

    Args:
        parent: the `qSlicerScriptedFileReader`.
    """

    def __init__(self, parent: Any) -> None:
        self.parent = parent

    def description(self) -> str:
        """Return what is read."""
        return _("Cohort of registrations")

    def fileType(self) -> str:
        """Return the name for `slicer.util.loadNodeFromFile`."""
        return "FoundationRegistrationCohort"

    def extensions(self) -> list[str]:
        """Return the filters of a file dialog."""
        return [f"{self.description()} (*.csv)"]

    def canLoadFile(self, filePath: str) -> bool:
        """Whether a file is the table of a cohort."""
        return is_cohort_table(Path(filePath))

    def canLoadFileConfidence(self, filePath: str) -> float:
        """Return how sure it is that a file is the table of a cohort, 0 to 1."""
        return _SURE if self.canLoadFile(filePath) else 0.0

    def load(self, properties: Mapping[str, Any]) -> bool:
        """Show the pairs in the Batch section, where one is chosen and loaded; return whether they are shown."""
        try:
            slicer.util.selectModule(_MODULE)
            widget = slicer.util.getModuleWidget(_MODULE)
        except RuntimeError:
            _LOGGER.exception("A cohort is shown in the main window; without one, use the logic's loadPair.")
            return False
        return bool(widget.openCohort(Path(properties["fileName"]).parent))
