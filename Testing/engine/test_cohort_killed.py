"""Real registrations of a cohort that is killed and resumed; `killed_cohorts.py` kills more often, by hand."""

import os

import pytest
from killed_cohorts import BROKEN, end_state, make_table, run_killed


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_twelve_pairs_killed_and_resumed_end_as_if_nothing_had_happened(tmp_path):
    table = make_table(tmp_path)
    assert run_killed(table, tmp_path / "whole", 0, seed=3) == (1, [])
    code, moments = run_killed(table, tmp_path / "killed", 2, seed=3)
    assert code == 1 and moments
    whole, killed = (end_state(tmp_path / name) for name in ("whole", "killed"))
    assert killed.keys() == whole.keys()
    assert [name for name in whole if whole[name] != killed[name]] == []
    records = {name: content for name, content in killed.items() if name.endswith("pair.json")}
    states = [content["state"] for content in records.values()]
    assert (len(states), states.count("done")) == (12, 11)
    assert f"{BROKEN}/log.txt" in killed and "broken.nii.gz" in records[f"{BROKEN}/pair.json"]["error"]
