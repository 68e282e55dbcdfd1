"""Make the runs, then fit the model of the expected error or write the tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from FoundationRegistrationLib.files.outputs import complete_or_absent

from . import __doc__ as description
from .expected import MODEL_FILE, Model, Points, expected_error_table, reliability_plot, with_truth
from .runs import Run, kept_run
from .trials import easy_trials, phantom_trials, real_trials
from .verdicts import verdict_table

SEEDS = {"fit": tuple(range(100, 105)), "report": tuple(range(1, 5))}
_SPACING_MM = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=tuple(SEEDS))
    parser.add_argument("--output", type=Path, default=Path("out"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the real volumes")
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the documented ones")
    parser.add_argument("--spacing-mm", type=float, default=_SPACING_MM, help="of phantoms and working grids")
    arguments = parser.parse_args()

    def runs_of(action: str, seeds: tuple[int, ...]) -> list[Run]:
        trials = [
            *real_trials(arguments.data, seeds[0]),
            *easy_trials(seeds, arguments.spacing_mm),
            *phantom_trials(seeds, arguments.spacing_mm),
        ]
        folder = arguments.output / "trust" / action
        folder.mkdir(parents=True, exist_ok=True)
        return [kept_run(folder, trial) for trial in trials]

    runs = runs_of(arguments.action, tuple(arguments.seeds or SEEDS[arguments.action]))
    if arguments.action == "fit":
        known = with_truth(runs)
        groups = "\n".join(f"- {group}" for group in sorted({run.group for run in known}))
        model = Model.fitted(Points.joined([Points.of(run) for run in known]))
        with complete_or_absent(MODEL_FILE) as unfinished:
            unfinished.write_text(model.text(groups, len(known)), encoding="utf-8")
        return
    fitted_on = runs_of("fit", SEEDS["fit"])
    with complete_or_absent(arguments.output / "trust.md") as unfinished:
        unfinished.write_text(f"{verdict_table(runs)}\n{expected_error_table(fitted_on, runs)}", encoding="utf-8")
    by_group: dict[str, list[Points]] = {}
    for run in with_truth(runs):
        by_group.setdefault(run.group, []).append(Points.of(run))
    with complete_or_absent(arguments.output / "expected_error.png") as unfinished:
        figure = reliability_plot({group: Points.joined(parts) for group, parts in by_group.items()})
        figure.savefig(unfinished, format="png", dpi=130)


if __name__ == "__main__":
    main()
