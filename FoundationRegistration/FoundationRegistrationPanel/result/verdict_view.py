"""What the Result section says of a registration: verdict, reasons, figures, messages; or how a run failed."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from slicer.i18n import tr as _

from ..wording.messages import in_panel_words
from ..wording.result import Lines, details, figures
from ..wording.series import series_details, series_figures, series_reasons, series_verdict

# Background and text of each verdict. The words tell green, amber and red apart too.
_GREEN, _AMBER, _RED, _GREY = ("#1f7a42", "white"), ("#ffcf5c", "black"), ("#b3261e", "white"), ("#5f6368", "white")
VERDICTS = {
    "good": (_GREEN, "Good: look at it before you rely on it."),
    "check": (_AMBER, "Check this result before you use it."),
    "failed": (_RED, "Failed: do not use this result."),
}


class VerdictView:
    """Shows texts; knows no views.

    Args:
        ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui

    def show(self, record: Mapping[str, Any]) -> None:
        """Show the record of a run; nothing for an empty one, and no verdict for one of an earlier version."""
        verdict = record.get("verdict")
        colours, words = VERDICTS[verdict["level"]] if verdict else (_GREY, "")
        self._head(
            colours, _(words) if words else "", "\n".join(map(in_panel_words, verdict["reasons"])) if verdict else ""
        )
        _say(self._ui.resultNote, "\n".join(map(in_panel_words, record.get("messages", ()))))
        self._figures(figures(record), details(record))

    def show_series(self, record: Mapping[str, Any], titles: Sequence[str]) -> None:
        """Show the record of a run of a series; nothing for an empty one.

        Args:
            record: of the run.
            titles: of its time points.
        """
        level, words = series_verdict(record)
        self._head(VERDICTS[level][0] if level else _GREY, words, "\n".join(series_reasons(record)))
        _say(self._ui.resultNote, "")
        self._figures(series_figures(record), series_details(record, titles))

    def show_end(self, error: str | None) -> None:
        """Show how a run without a result ended, and nothing else.

        Args:
            error: why it failed; None if it was cancelled.
        """
        self.show({})
        if error is None:
            self._head(_GREY, _("No result: the run was cancelled."), "")
        else:
            self._head(_RED, _("No result: the run failed."), in_panel_words(error))

    def _figures(self, lines: Lines, others: list[str]) -> None:
        rows = "".join(
            f"<tr><td>{html.escape(name)}&nbsp;&nbsp;</td><td>{html.escape(words)}</td></tr>" for name, words in lines
        )
        _say(self._ui.figuresNote, f"<table>{rows}</table>" if rows else "")
        _say(self._ui.detailsNote, "\n".join(others))

    def _head(self, colours: tuple[str, str], words: str, reasons: str) -> None:
        note, (background, text) = self._ui.verdictNote, colours
        _say(note, words)
        note.setStyleSheet(f"background-color: {background}; color: {text}; padding: 4px; font-weight: bold;")
        _say(self._ui.reasonsNote, reasons)


def _say(note: Any, text: str) -> None:
    note.text = text
    note.visible = bool(text)
