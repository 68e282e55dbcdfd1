"""The Batch section: runs a table of pairs, shows how they ended, and loads one of them into the scene."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import qt
import slicer
import slicer.util
from FoundationRegistrationBridge.cohort.job import CohortJob, PairNews, full_path, results_folder
from FoundationRegistrationBridge.cohort.results import PAIRS, pairs_in
from slicer.i18n import tr as _

from .parameters import changed_settings, show_pair
from .result.verdict_view import VERDICTS
from .running.control import RunControl
from .running.packages import packages_ready

_PAGE = "index.html"
_NAME, _VERDICT, _MESSAGE = range(3)
_HALF = 0.5


class BatchSection:
    """Connects the widgets of the Batch section to the engine's `cohort`, which runs in a process of its own.

    Args:
        widget: loaded from Batch.ui.
        parameters: returns the parameter node, whose preset and settings are those of all pairs.
        guarded: context manager that shows errors.
        load_pair: adds the pair of this name in the folder of a cohort to the scene, and returns a `LoadedPair`.
        requirements: file with the packages that the engine needs.
    """

    def __init__(
        self,
        widget: Any,
        parameters: Callable[[], Any],
        guarded: Callable[[], Any],
        load_pair: Callable[[Path, str], Any],
        requirements: Path,
    ) -> None:
        self._ui = ui = slicer.util.childWidgetVariables(widget)
        self._widget = widget
        self._parameters = parameters
        self._guarded = guarded
        self._load_pair = load_pair
        self._requirements = requirements
        self._rows: dict[str, int] = {}
        self._run = RunControl(
            SimpleNamespace(
                progressBar=ui.batchProgressBar,
                stepNote=ui.batchStepNote,
                logText=ui.batchLogText,
                runLogText=ui.batchLogText,
                applyButton=ui.batchRunButton,
            ),
            self._show_actions,
        )
        ui.batchRunButton.connect("clicked(bool)", self._on_run)
        ui.batchPageButton.connect("clicked(bool)", self._on_page)
        ui.batchLoadButton.connect("clicked(bool)", self._on_load)
        ui.batchTableButton.connect("clicked(bool)", self._on_choose_table)
        ui.batchFolderButton.connect("clicked(bool)", self._on_choose_folder)
        ui.batchTableEdit.connect("editingFinished()", self._on_paths)
        ui.batchFolderEdit.connect("editingFinished()", self._on_paths)
        ui.batchPairsTable.connect("itemSelectionChanged()", self._show_actions)
        self._show_actions()

    def close(self) -> None:
        """End a running batch: the application closes. What is finished is kept."""
        self._run.end_now()

    def open(self, folder: Path) -> bool:
        """Show the pairs of a finished cohort, the first that can be loaded selected; return whether they are shown.

        Args:
            folder: of its results.
        """
        ui = self._ui
        ui.batchSection.collapsed = False
        if self._run.busy:
            slicer.util.errorDisplay(_("A batch is running; cancel it, or wait for its end, to open another one."))
            return False
        ui.batchTableEdit.text = ""  # which would be run into this folder
        ui.batchFolderEdit.text = str(folder)
        self._on_paths()
        verdicts = {name: ui.batchPairsTable.item(row, _VERDICT).text() for name, row in self._rows.items()}
        done = [self._rows[name] for name, verdict in verdicts.items() if verdict in VERDICTS]
        if done:
            ui.batchPairsTable.selectRow(done[0])
        return bool(self._rows)

    @property
    def _table(self) -> Path | None:
        text = self._ui.batchTableEdit.text.strip()
        return full_path(text) if text else None

    @property
    def _folder(self) -> Path | None:
        """The folder of the results; that of the table if none is chosen."""
        text = self._ui.batchFolderEdit.text.strip()
        if text:
            return full_path(text)
        return results_folder(self._table) if self._table is not None else None

    def _on_run(self, checked: bool = False) -> None:
        """Start the batch, or cancel the running one."""
        if self._run.busy:
            self._run.cancel()
            return
        parameters = self._parameters()
        with self._guarded():
            if not packages_ready(self._requirements, self._run, self._on_installed):
                return
            job = CohortJob(
                self._table,
                self._folder,
                parameters.preset,
                changed_settings(parameters),
                self._on_pair,
                on_progress=self._show_progress,
                on_finished=self._on_finished,
            )
            job.start()
            self._clear()
            self._run.begin(job)

    def _on_installed(self, error: str | None, cancelled: bool) -> None:
        """Go on after packages were installed."""
        if error is not None:
            self._run.say(error)
            slicer.util.errorDisplay(error)
        elif not cancelled:
            # After this callback the task has ended, and the batch can begin.
            qt.QTimer.singleShot(0, self._on_run)

    def _show_progress(self, step: str, fraction: float, remaining_seconds: float | None) -> None:
        self._run.show_progress(_("pair {step}").format(step=step), fraction, remaining_seconds)

    def _on_pair(self, news: PairNews) -> None:
        """Show a pair that is being registered or has ended."""
        if news.step != "done":
            self._show_pair(news.name, _("running"), news.step)
        else:
            self._show_pair(news.name, news.verdict, news.message)

    def _on_finished(self, rows: Any, error: str | None, cancelled: bool) -> None:
        if cancelled:
            self._run.say(_("Cancelled; the pairs that are done are kept. Run goes on from here."))
        elif error is not None:
            self._run.say(error)
            slicer.util.errorDisplay(error)
        self._on_paths()

    def _on_paths(self) -> None:
        """Show the pairs that are in the chosen folder already."""
        self._clear()
        folder = self._folder
        if folder is not None and (folder / PAIRS).is_file():
            with self._guarded():
                for row in pairs_in(folder):
                    words = row.verdict if row.state == "done" else _(row.state)
                    self._show_pair(row.name, words, row.message)
        self._show_actions()

    def _on_page(self, checked: bool = False) -> None:
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(self._folder / _PAGE)))

    def _on_load(self, checked: bool = False) -> None:
        """Load the selected pair, and show it as the result."""
        with self._guarded():
            loaded = self._load_pair(self._folder, self._selected())
            show_pair(
                self._parameters(),
                fixedVolume=loaded.fixed,
                movingVolume=loaded.moving,
                fixedLabels=loaded.fixed_labels,
                movingLabels=loaded.moving_labels,
                resultTransform=loaded.outputs.transform_node,
                resultVolume=loaded.outputs.volume_node,
            )
            _show(loaded.fixed, loaded.outputs.volume_node)

    def _on_choose_table(self, checked: bool = False) -> None:
        kinds = _("Tables (*.csv *.tsv *.txt)")
        path = qt.QFileDialog.getOpenFileName(self._widget, _("Table of pairs"), "", kinds)
        if path:
            self._ui.batchTableEdit.text = path
            self._on_paths()

    def _on_choose_folder(self, checked: bool = False) -> None:
        path = qt.QFileDialog.getExistingDirectory(self._widget, _("Results folder"), str(self._folder or ""))
        if path:
            self._ui.batchFolderEdit.text = path
            self._on_paths()

    def _selected(self) -> str:
        """Return the name of the selected pair; empty if there is none."""
        row = self._ui.batchPairsTable.currentRow()
        return next((name for name, number in self._rows.items() if number == row), "")

    def _clear(self) -> None:
        self._rows.clear()
        self._ui.batchPairsTable.rowCount = 0

    def _show_pair(self, name: str, verdict: str, message: str) -> None:
        table = self._ui.batchPairsTable
        if name not in self._rows:
            self._rows[name] = len(self._rows)
            table.rowCount = len(self._rows)
        row = self._rows[name]
        for column, text in ((_NAME, name), (_VERDICT, verdict), (_MESSAGE, message)):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(text)
            if column == _VERDICT and text in VERDICTS:
                (background, foreground), _words = VERDICTS[text]
                item.setBackground(qt.QBrush(qt.QColor(background)))
                item.setForeground(qt.QBrush(qt.QColor(foreground)))
            table.setItem(row, column, item)

    def _show_actions(self) -> None:
        """Enable what can be done now, and say why the rest cannot."""
        ui, busy, folder = self._ui, self._run.busy, self._folder
        ui.batchRunButton.text = _("Cancel") if busy else _("Run")
        ui.batchRunButton.enabled = busy or self._table is not None
        ui.batchRunButton.toolTip = (
            _("Register all pairs of the table; what is done already is kept")
            if ui.batchRunButton.enabled
            else _("Choose a table of pairs.")
        )
        for edit in (ui.batchTableEdit, ui.batchFolderEdit, ui.batchTableButton, ui.batchFolderButton):
            edit.enabled = not busy
        ui.batchPageButton.enabled = folder is not None and (folder / _PAGE).is_file()
        ui.batchLoadButton.enabled = bool(self._selected())


def _show(fixed: Any, registered: Any) -> None:
    """Show the fixed volume in all slice views, and the registered one half over it."""
    logic = slicer.app.applicationLogic()
    selection = logic.GetSelectionNode()
    selection.SetActiveVolumeID(fixed.GetID())
    selection.SetSecondaryVolumeID(registered.GetID())
    logic.PropagateVolumeSelection()  # which also fits the views
    slicer.util.setSliceViewerLayers(foregroundOpacity=_HALF)
