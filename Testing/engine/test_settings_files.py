"""Settings files anyone may have written: the values they say are taken exactly, or refused in one line."""

import dataclasses
import json
import os
import random
import subprocess
import sys
from typing import get_type_hints

import pytest

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.errors import SettingsError
from FoundationRegistrationLib.settings import PRESETS, Settings, read_settings_file, setting_choices


def refused(call):
    """The message of the refusal, which is one line of bearable length."""
    with pytest.raises(SettingsError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1500
    assert message.endswith(".")
    return message


def from_text(folder, text):
    path = folder / "settings.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Settings.from_preset(**read_settings_file(path))


REFUSED = [
    ('{"iterations": true}', "iterations is True; give a whole number"),
    ('{"regularization": false}', "regularization is False; give a number"),
    ('{"iterations": "80"}', "iterations is '80'; give a whole number without quotes"),
    ('{"iterations": [80]}', "iterations is a list of 1"),
    ('{"iterations": {"value": 80}}', "iterations is a dict of 1"),
    ('{"iterations": null}', "iterations is None"),
    ('{"iterations": 80.5}', "iterations is 80.5; give a whole number"),
    ('{"iterations": 1e300}', "between 0 and 10000"),
    ('{"iterations": 1' + "0" * 39 + "}", "iterations is a number of 40 digits; it must be between"),
    ('{"iterations": 1' + "0" * 400 + "}", "a number has 401 digits"),
    ('{"iterations": 1' + "0" * 5000 + "}", "a number has 5001 digits"),
    ('{"regularization": NaN}', "NaN is not a number"),
    ('{"regularization": -Infinity}', "-Infinity is not a number"),
    ('{"regularization": 1e999}', "'1e999' is too large a number"),
    ('{"iterations": 5, "iterations": 900}', "'iterations' is given twice"),
    ('{"iterations": ' + "[" * 200_000 + "]" * 200_000 + "}", "nested too deeply"),
    ('{"preset": ["lesion"]}', "Unknown preset a list of 1"),
    ('{"preset": {"a": 1}}', "Unknown preset a dict of 1"),
    ('{"device": ["cpu"]}', "device is a list of 1; choose one of: auto"),
    ('{"device": 7}', "device is 7; choose one of"),
    ('{"encoder": ["mind"]}', "encoder is a list of 1; give text"),
    ('{"encoder": "' + "m" * 100_000 + '"}', "at most 200 printable characters"),
    ('{"weights": "a\\u0000b"}', "printable characters"),
    ('{"weights": "\\ud800"}', "printable characters"),
    ('{"settings": [1, 2]}', "not a JSON object"),
    ('{"settings": {"settings": {"iterations": 5}}}', "Unknown setting 'settings'"),
    ('{"' + "x" * 100_000 + '": 1}', "Unknown setting 'xxx"),
    ("[]", "not a JSON object"),
    ("", "Cannot read settings"),
    ('{"iterations": 5', "Cannot read settings"),
    ('{"iterations": 5}'.encode("utf-16"), "not UTF-8 text"),
    (b'{"encoder": "m\xff"}', "not UTF-8 text"),
    (b" " * 5_000_000, "larger than 4 MB"),
]


@pytest.mark.parametrize(("text", "named"), REFUSED, ids=[named for _, named in REFUSED])
def test_what_no_run_can_have_is_refused_in_words(tmp_path, text, named):
    assert named in refused(lambda: from_text(tmp_path, text))


@pytest.mark.parametrize("name", ["iterations", "regularization"])
def test_what_a_program_gives_is_held_to_the_same(name):
    for value in (10**400, 10**5000, -(10**400), float("nan"), float("-inf"), True, "5", [5], b"5"):
        assert name in refused(lambda value=value: Settings(**{name: value}))


def test_a_byte_order_mark_and_whole_numbers_with_a_point_are_no_fault(tmp_path):
    text = b"\xef\xbb\xbf" + json.dumps({"iterations": 7.0, "working_spacing_mm": 3}).encode()
    assert from_text(tmp_path, text) == Settings(iterations=7, working_spacing_mm=3.0)


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes and devices are other things there")
def test_pipes_devices_and_folders_end_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link", "."):
        assert "not a regular file" in refused(lambda name=name: read_settings_file(tmp_path / name))
    assert "No such file" in refused(lambda: read_settings_file(tmp_path / "none"))


def test_a_large_file_is_not_read(tmp_path):
    path = tmp_path / "settings.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse: a terabyte of nothing
    limited = "import resource as r; r.setrlimit(r.RLIMIT_AS, (2**30, 2**30))\n" if sys.platform == "linux" else ""
    program = f"""{limited}
import sys
from pathlib import Path
from FoundationRegistrationLib.errors import SettingsError
from FoundationRegistrationLib.settings import read_settings_file
try:
    read_settings_file(Path(sys.argv[1]))
except SettingsError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert "larger than 4 MB" in run.stdout


def test_the_command_line_says_it_in_one_line(tmp_path, capsys):
    path = tmp_path / "settings.json"
    path.write_text('{"iterations": [[[1]]], "preset": [1]}')
    volumes = [str(tmp_path / "a.nii"), str(tmp_path / "b.nii")]
    command = ["register", *volumes, "--output", str(tmp_path / "result"), "--settings", str(path)]
    assert main([*command, "--progress", "none"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "preset" in error


# ---- any file at all ----

FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
HINTS = get_type_hints(Settings)


def allowed(chance, name):
    """A value the field may have, as its declaration says."""
    field, kind = FIELDS[name], HINTS[name]
    if name == "preset":
        return chance.choice(list(PRESETS))
    if setting_choices(kind):
        return chance.choice(setting_choices(kind))
    if kind is str:
        return chance.choice(["mind", "sam", "x" * 100, "", "Gewichte für Ä"])
    low, high = field.metadata["minimum"], field.metadata["maximum"]
    if kind is float:
        return chance.uniform(low, high)
    return (
        chance.randrange(int(low), int(high) + 1) // 2 * 2 + 1 if field.metadata["odd"] else chance.randint(low, high)
    )


def anything(chance, depth=0):
    """A value of any kind that JSON can write."""
    kind = chance.randrange(9 if depth < 4 else 7)
    if kind == 7:
        return [anything(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 8:
        return {str(i): anything(chance, depth + 1) for i in range(chance.randrange(4))}
    number = chance.choice([0, 1, -1, 7, 10**9, 10**30, 10 ** chance.randrange(300, 4000)])
    return [
        None,
        True,
        False,
        number,
        chance.uniform(-1e3, 1e3),
        float("nan"),
        chance.choice(["", "5", "\n", "ä" * 99]),
    ][kind]


@pytest.mark.parametrize("seed", range(200))
def test_any_file_is_taken_exactly_or_refused(tmp_path, seed):
    chance = random.Random(seed)
    names = chance.sample(sorted(FIELDS), chance.randrange(1, 6))
    values = {name: anything(chance) if chance.random() < 0.3 else allowed(chance, name) for name in names}
    text = bytearray(json.dumps({"settings": values} if chance.random() < 0.3 else values).encode())
    if chance.random() < 0.2:
        text[chance.randrange(len(text))] = chance.randrange(256)
    elif chance.random() < 0.1:
        del text[chance.randrange(len(text)) :]
    (tmp_path / "any.json").write_bytes(text)
    try:
        given = read_settings_file(tmp_path / "any.json")
        made = Settings.from_preset(**given)
    except SettingsError as error:
        assert "\n" not in str(error)
        return
    expected = {**PRESETS[given.get("preset", "default")].values, **given}
    for name, value in expected.items():
        found = getattr(made, name)
        if "encoder" not in name:  # A+B is taken apart
            assert (found, type(found)) == (value, HINTS[name] if HINTS[name] in (int, float) else str)
