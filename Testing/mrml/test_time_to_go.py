"""How long a run still takes: from the measured steps of earlier runs, and the work counted in this one."""

import itertools

import pytest
from FoundationRegistrationBridge.process.time_to_go import TimeToGo

# Measured: a longitudinal pair with MIND on a 3 mm grid, one core.
RECORDED = {
    "starting": 3.9,
    "preparation": 0.6,
    "initial alignment": 3.7,
    "encoding": 4.1,
    "discrete search": 0.4,
    "instance optimisation": 2.0,
    "fluid refinement": 26.1,
    "inverse and warp": 2.8,
    "done": 4.2,
}
COUNTED = {"initial alignment", "encoding", "instance optimisation", "fluid refinement"}
REPORTS = 20


def replayed(steps, expected, every=0.25):
    """Return (seconds since the start, seconds left, what was said) of a run with these steps, time after time."""
    time_to_go = TimeToGo(expected)
    time_to_go.start(0.0)
    end, begun, said = sum(steps.values()), 0.0, []
    for number, (step, seconds) in enumerate(steps.items()):
        for report in range(REPORTS if step in COUNTED else 1):
            now = begun + seconds * report / REPORTS
            if step != "starting":
                time_to_go.report(step, number / len(steps), report / REPORTS, now)
            said.append((now, end - now, time_to_go.remaining(now)))
        if step not in COUNTED:  # nothing is heard of it meanwhile
            said += [(begun + t, end - begun - t, time_to_go.remaining(begun + t)) for t in _times(seconds, every)]
        begun += seconds
    return said


def _times(seconds, every):
    return [every * number for number in range(1, int(seconds / every))]


def scaled(**factors):
    return {name: seconds * factors.get(name.replace(" ", "_"), factors["all"]) for name, seconds in RECORDED.items()}


@pytest.mark.parametrize(
    "steps",
    [
        RECORDED,
        scaled(all=2.5),  # a machine that is busy with something else
        scaled(all=0.6),
        scaled(all=1.2, fluid_refinement=0.9, inverse_and_warp=1.3),  # it has converged earlier
        scaled(all=1.0, encoding=0.01),  # features from the disk
    ],
    ids=["as before", "slow machine", "fast machine", "converged early", "cached features"],
)
def test_after_a_quarter_of_the_run_it_is_right_within_30_percent(steps):
    end = sum(steps.values())
    late = [(left, said) for now, left, said in replayed(steps, RECORDED) if now > 0.25 * end and left > 0.1 * end]
    assert len(late) > 20
    for left, said in late:
        assert said == pytest.approx(left, rel=0.3)


def test_what_is_left_falls_while_nothing_is_heard():
    """A step whose parts take unlike times reports early on, and then not until its end."""
    time_to_go = TimeToGo(RECORDED)
    now = 0.0
    time_to_go.start(now)
    for step in list(RECORDED)[1:-2]:
        now += RECORDED[step]
        time_to_go.report(step, 0.5, 0.0, now)
    time_to_go.report("inverse and warp", 0.9, 0.0, now)
    time_to_go.report("inverse and warp", 0.9, 0.2, now + 0.5)
    said = [time_to_go.remaining(now + 0.5 + waited) for waited in (0.0, 0.5, 1.0, 1.5, 2.0)]
    assert all(later < earlier for earlier, later in itertools.pairwise(said))


def test_steps_that_are_new_do_not_disturb_what_is_known():
    steps = {**scaled(all=1.0), "done": 4.2}
    expected = {name: seconds for name, seconds in RECORDED.items() if name != "discrete search"}
    assert all(said >= 0.0 for _, _, said in replayed(steps, expected))


def test_nothing_is_said_of_a_first_registration():
    assert {said for _, _, said in replayed(RECORDED, {})} == {None}


def test_a_download_needs_no_earlier_one():
    time_to_go = TimeToGo()
    time_to_go.start(0.0)
    for percent in range(101):
        time_to_go.report("weights", percent / 100, 0.0, 10.0 + percent)
        if percent < 25:
            assert time_to_go.remaining(10.0 + percent) is None
        else:
            assert time_to_go.remaining(10.0 + percent) == pytest.approx(100 - percent)
