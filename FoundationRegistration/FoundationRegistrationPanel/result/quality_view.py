"""The Quality section: measures the registration shown under Result, and hands its table on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from FoundationRegistrationBridge.quality.table import as_text, plot, plottable, write_csv
from FoundationRegistrationBridge.scene.transforms import fixed_of
from slicer.i18n import tr as _


class QualityView:
    """Connects the widgets of the Quality section.

    Args:
        ui: the panel's widgets.
        measure: returns the table node of a registration, from it and the labels and landmarks of both sides.
        guarded: context manager that shows errors.
    """

    def __init__(self, ui: Any, measure: Callable[..., Any], guarded: Callable[[], Any]) -> None:
        self._ui = ui
        self._measure = measure
        self._guarded = guarded
        self._parameters: Any = None
        self._table: Any = None
        self._measured: Any = None
        ui.qualityButton.connect("clicked(bool)", self._on_measure)
        ui.copyQualityButton.connect("clicked(bool)", self._on_copy)
        ui.exportQualityButton.connect("clicked(bool)", self._on_export)
        ui.plotButton.connect("clicked(bool)", self._on_plot)

    def show(self, parameters: Any) -> None:
        """Enable the measurement of the chosen registration, and hide a table that belongs to another one."""
        self._parameters = parameters
        transform = parameters.resultTransform
        self._ui.qualityButton.enabled = transform is not None and fixed_of(transform) is not None
        if self._table is not None and (transform is not self._measured or self._table.GetScene() is None):
            self.clear()

    def clear(self) -> None:
        """Show no table."""
        self._table = self._measured = None
        self._ui.qualityTable.setMRMLTableNode(None)
        self._ui.qualityBox.visible = False

    def _on_measure(self, checked: bool = False) -> None:
        parameters, ui = self._parameters, self._ui
        with self._guarded():
            transform = parameters.resultTransform
            self._table = self._measure(
                transform,
                parameters.fixedLabels,
                parameters.movingLabels,
                parameters.fixedPoints,
                parameters.movingPoints,
            )
            self._measured = transform
            ui.qualityTable.setMRMLTableNode(self._table)
            ui.qualityTable.resizeColumnsToContents()
            ui.plotSelector.clear()
            ui.plotSelector.addItems(plottable(self._table))
            ui.plotButton.enabled = ui.plotSelector.enabled = ui.plotSelector.count > 0
            ui.qualityBox.visible = True

    def _on_copy(self, checked: bool = False) -> None:
        qt.QApplication.clipboard().setText(as_text(self._table))

    def _on_export(self, checked: bool = False) -> None:
        name = f"{self._table.GetName()}.csv"
        path = qt.QFileDialog.getSaveFileName(
            self._ui.exportQualityButton, _("Export quality"), name, _("Comma-separated values (*.csv)")
        )
        if path:
            with self._guarded():
                write_csv(self._table, Path(path))

    def _on_plot(self, checked: bool = False) -> None:
        with self._guarded():
            plot(self._table, self._ui.plotSelector.currentText)
