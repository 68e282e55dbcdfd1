"""The search for the settings of the presets: it finds the best values, of what exists, on pairs never reported."""

import importlib
from pathlib import Path

import pytest
from benchmarks.comparison.phantoms import SEEDS

from FoundationRegistrationLib import PRESETS, Settings


@pytest.fixture(scope="module")
def tuning():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
        yield importlib.import_module("tuning")


class KnownLosses:
    """Stands in for registrations: the loss is known, and low for one set of values."""

    def __init__(self, loss):
        self._loss = loss

    def losses(self, preset, candidates):
        return [self._loss(values) for values in candidates]


def test_the_best_values_are_found_one_move_after_the_other(tuning):
    def loss(values):
        return abs(values["fluid_iterations"] - 120) / 100 + abs(values["compressibility"] - 0.3)

    found = tuning.tuned("longitudinal", KnownLosses(loss))
    assert (found["fluid_iterations"], found["compressibility"]) == (120, 0.3), "several moves away"
    preset = Settings.from_preset("longitudinal")
    assert found["regularization"] == preset.regularization, "what gains nothing stays"


def test_what_gains_too_little_to_be_told_from_chance_is_not_followed(tuning):
    encoder = Settings.from_preset("lesion").encoder
    for gain, stays in ((0.9, True), (1.1, False)):
        penalty = gain * tuning.LEAST_GAIN
        losses = KnownLosses(lambda values, penalty=penalty: penalty * (values["encoder"] == encoder))
        assert (tuning.tuned("lesion", losses)["encoder"] == encoder) is stays


def test_only_settings_that_are_named_are_moved(tuning):
    found = tuning.tuned("default", KnownLosses(lambda values: -sum(values.values())), ["fluid_iterations"])
    assert found == {"fluid_iterations": 120}


def test_values_that_do_not_go_together_are_left_out(tuning):
    found = tuning.tuned(
        tuning.SHARED, KnownLosses(lambda values: -values["adam_grid_spacing"] - values["grid_spacing"])
    )
    assert found["grid_spacing"] == 8
    assert found["grid_spacing"] % found["adam_grid_spacing"] == 0


def test_all_that_is_moved_exists_and_is_moved_from_where_it_is(tuning):
    for preset, choices in tuning.CHOICES.items():
        found = tuning.tuned(preset, KnownLosses(lambda values: 0.0))
        assert choices.keys() <= found.keys()
        for name in choices:
            if preset in PRESETS and name != "encoder":
                assert found[name] == getattr(Settings.from_preset(preset), name)


def test_no_reported_phantom_is_looked_at(tuning):
    seeds = {int(pair.split()[1]) for pairs in tuning.PAIRS.values() for pair in pairs if " " in pair}
    assert seeds
    assert seeds.isdisjoint(SEEDS)
