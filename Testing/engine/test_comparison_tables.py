"""The benchmark's statistics and its page, on small records whose answers are known."""

import json
import sys

import pytest
from benchmarks.comparison.__main__ import main
from benchmarks.comparison.phantoms import phantom_sources
from benchmarks.comparison.summary import write_summary

from FoundationRegistrationLib.evaluation.statistics import holm, interval, paired

CASES = 6
DICE = {
    "raw": 0.3,
    "ants-syn": 0.6,
    "niftyreg-f3d": 0.9,
    "ours-mind": 0.7,
    "ours-litemedsam": 0.65,
    "ours-preset": 0.8,
}


def record(method, case, dice, group="phantom, lesion", **more):
    return {
        "case": f"hard-lesion-{case}-2mm",
        "group": group,
        "method": method,
        "label": method,
        "status": "done",
        "dice": {"breast": dice},
        "lesion": {"change_percent": -10.0},
        "jacobian": {"folded_percent": 0.0, "sd_log": 0.1},
        "facts": {"moving sequence": ("t2", "t1-fs")[case % 2], "density": 0.1 * case, "raw breast Dice": 0.3},
        "seconds": 1.0,
        "cpu_seconds": 2.0,
        "peak_memory_mb": 100.0,
    } | more


def records():
    """Six pairs for each method; differences between the methods grow slightly from pair to pair."""
    return [
        record(method, case, dice * (1.0 + 0.01 * case))
        for method, dice in DICE.items()
        for case in range(1, CASES + 1)
    ]


def rows_of(text, method):
    return [line for line in text.splitlines() if line.startswith(f"| {method} |")]


def test_an_interval_holds_the_median_and_is_the_same_again():
    values = [0.1, 0.4, 0.5, 0.6, 0.65, 0.9, 0.95]
    low, high = interval(values)
    assert min(values) <= low < 0.6 < high <= max(values)
    assert interval(values) == (low, high)
    assert interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert interval([0.5]) is None


def test_pairs_are_tested_by_the_ranks_of_their_differences():
    test = paired([1.1, 2.2, 3.3, 4.4, 5.5], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert (test.pairs, test.difference) == (5, pytest.approx(0.3))
    assert test.p == pytest.approx(2 / 2**5), "all five signs alike, either way"
    assert paired([1.0, 2.0], [1.0, 2.0]).p == 1.0
    assert not paired([1.0], [2.0]).p <= 1.0, "one pair is no test"


def test_p_values_are_corrected_step_by_step():
    assert holm([0.01, 0.04, 0.03, float("nan")]) == pytest.approx([0.03, 0.06, 0.06, float("nan")], nan_ok=True)
    assert holm([0.5, 0.6]) == [1.0, 1.0]


def test_the_page_tells_who_is_ahead_and_how_sure_that_is(tmp_path):
    failed = record("greedy", 1, 0.0) | {"status": "failed", "reason": "broke"}
    write_summary([*records(), failed], tmp_path)
    text = (tmp_path / "comparison.md").read_text()
    medians, tests, paper = rows_of(text, "ants-syn")[0], rows_of(text, "ants-syn")[2], rows_of(text, "ants-syn")[3]
    assert medians.startswith("| ants-syn | 6 of 6 | 0.621 ["), "0.6 x 1.035"
    # Five methods against the preset, p = 2 / 2^6 for each: corrected 5 / 32.
    assert tests.startswith("| ants-syn | 6 | -0.207 (p = 0.16) |")
    assert "- Dice breast: niftyreg-f3d +0.103 (p = 0.16)" in text, "a peer that is ahead is named"
    assert paper.startswith("| ants-syn | 6 | 62.1 (1.1) | 80.5 (10.1) |")
    assert rows_of(text, "greedy")[0].startswith("| greedy | 0 of 1 |")
    assert "hard-lesion-1-2mm, greedy: failed: broke" in text
    encoders = text.split("## Encoders against MIND")[1].split("\n## ")[0]
    assert rows_of(encoders, "ours-litemedsam")[0].startswith("| ours-litemedsam | 6 | **-0.052 (p = 0.031)** |")
    assert not rows_of(encoders, "ours-preset")
    assert len(json.loads((tmp_path / "comparison.json").read_text())["records"]) == 6 * CASES + 1


def test_tables_are_made_of_what_is_there_and_nothing_is_run(tmp_path, monkeypatch):
    for case in (1, 2):
        folder = tmp_path / "comparison" / f"raw__hard-lesion-{case}-2mm"
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps({"trial": record("raw", case, 0.3)}))
        (folder / "pair.json").write_text(json.dumps({"state": "done", "error": "", "key": "", "seconds": 1.0}))
    command = ["comparison", "--summary", "--output", str(tmp_path), "--data", str(tmp_path), "--seeds", "2-3"]
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 0
    text = (tmp_path / "comparison" / "comparison.md").read_text()
    assert rows_of(text, "raw")[0].startswith("| raw | 1 of 1 | 0.300 |"), "seed 1 was not asked for"
    assert len(list((tmp_path / "comparison").glob("*__*"))) == 2


def test_a_phantom_tells_what_its_rows_can_be_grouped_by():
    facts = phantom_sources((100,), 8.0)[3].build().facts
    assert facts["moving sequence"] == "ct"
    assert 0.0 < facts["density"] < 1.0
    assert 0.0 <= facts["raw breast Dice"] < 1.0
