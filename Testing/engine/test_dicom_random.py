"""DICOM put together or damaged at random, with the truth known: right, or refused in words."""

import random

import numpy as np
import pytest
from dicom_reading import ROUNDING, SYNTAXES, elsewhere, read
from dicom_series import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    largest_error,
    oblique,
    positions,
    write_enhanced,
    write_object,
    write_series,
    write_slice,
)

from FoundationRegistrationLib.errors import InputError


def add_objects(rng, folder):
    """Add what is no image; a folder stays what it was."""
    if rng.random() < 0.3:
        write_object(folder / "report.dcm", "1.2.840.10008.5.1.4.1.1.88.11", SeriesInstanceUID="1.9")
    if rng.random() < 0.3:
        (folder / "notes.txt").write_bytes(rng.randbytes(300))
    if rng.random() < 0.3:
        (folder / "._s000.dcm").write_bytes(rng.randbytes(300))


def random_series(rng, folder):
    """Write a sound series of random make; returns its positions in the order of names, and how it was written."""
    numbers = np.random.default_rng(rng.getrandbits(32))
    axes = rng.choice([AXIAL, SAGITTAL, CORONAL, -AXIAL, oblique(numbers), oblique(numbers)])
    options = {
        "axes": axes,
        "size": (2 * rng.randint(2, 6), rng.randint(4, 11)),
        "spacing": (rng.uniform(0.5, 4), rng.uniform(0.5, 4)),
        "syntax": rng.choice(SYNTAXES),
        **rng.choice([{}, {"signed": False, "intercept": -1500}, {"slope": 0.25, "intercept": 3.5}]),
    }
    places = positions(rng.randint(6, 9), rng.uniform(0.7, 6), axes, numbers.uniform(-15, 15, 3))
    order = rng.choice([1, -1]) * np.arange(len(places)) if rng.random() < 0.7 else numbers.permutation(len(places))
    write_series(folder, places[order], **options)
    return places[order], options


def random_spoiler(rng, folder, places, options):
    """Do one thing to a series after which it is no volume any more; returns what."""
    inner = [
        k
        for k in range(len(places))
        if 0 < np.argsort(np.argsort(places @ np.cross(*options["axes"])))[k] < len(places) - 1
    ]
    k, axes = rng.choice(inner), options["axes"]
    path = folder / f"s{k:03d}.dcm"

    def again(place=places[k], name=path, **changed):
        write_slice(name, place, **{"InstanceNumber": k + 1, **options, **changed})

    turn = np.array([[np.cos(0.1), np.sin(0.1)], [-np.sin(0.1), np.cos(0.1)]])
    step = float(np.abs(np.diff(np.sort(places @ np.cross(*axes)))).min())
    return rng.choice(
        [
            ("lost", path.unlink),
            ("cut", lambda: path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])),
            ("moved along", lambda: again(places[k] + rng.uniform(0.2, 0.8) * step * np.cross(*axes))),
            ("moved sideways", lambda: again(places[k] + rng.uniform(0.6, 9) * rng.choice([axes[0], axes[1]]))),
            ("turned", lambda: again(axes=turn @ axes)),
            ("mirrored", lambda: again(axes=axes * [[-1], [1]])),
            ("coarser", lambda: again(spacing=(options["spacing"][0] * 1.2, options["spacing"][1]))),
            ("smaller", lambda: again(size=(options["size"][0] - 2, options["size"][1]))),
            ("other echo", lambda: again(show=elsewhere, EchoTime=25.0)),
            (
                "other moment at one place",
                lambda: again(show=elsewhere, name=folder / "x.dcm", AcquisitionTime="101010"),
            ),
            ("other series", lambda: again(show=elsewhere, name=folder / "x.dcm", SeriesInstanceUID="1.7")),
            (
                "other series all over",
                lambda: write_series(folder, places, "x{}", show=elsewhere, SeriesInstanceUID="1.7", **options),
            ),
            ("second time", lambda: write_series(folder, places, "x{}", show=elsewhere, **options)),
            ("colour", lambda: again(PhotometricInterpretation="RGB")),
            (
                "no place",
                lambda: again(
                    lacks=[rng.choice(["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])]
                ),
            ),
            ("place that is none", lambda: again(ImagePositionPatient=["1", "nan", "2"])),
            ("other patient", lambda: again(PatientID="9")),
        ]
    )


def test_folders_put_together_at_random(tmp_path):
    """120 folders, half of them spoiled: the sound ones are read to the last voxel, the others are refused."""
    for seed in range(120):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        places, options = random_series(rng, folder)
        add_objects(rng, folder)
        if seed % 2:
            what, spoil_it = random_spoiler(rng, folder, places, options)
            spoil_it()
            with pytest.raises(InputError) as error:
                read(folder)
                pytest.fail(f"{seed}: {what} was read")
            assert "\n" not in str(error.value)
        else:
            image, _ = read(folder)
            assert image.GetSize() == (*options["size"], len(places)), seed
            assert largest_error(image) < ROUNDING, seed


def test_enhanced_files_put_together_at_random(tmp_path):
    """60 files with frames in random order, of which some were lost, doubled, moved or turned in every other file."""
    for seed in range(60):
        rng, numbers = random.Random(seed), np.random.default_rng(seed)
        axes, step, count = oblique(numbers), rng.uniform(0.7, 6), rng.randint(5, 9)
        places = positions(count, step, axes, numbers.uniform(-15, 15, 3))
        frame_axes = [axes] * count
        order = numbers.permutation(count)
        if seed % 2:
            k = rng.randrange(1, count - 1)
            spoiler = rng.choice(["lost", "doubled", "moved", "turned"])
            if spoiler == "lost":
                order = order[order != k]
            elif spoiler == "doubled":
                order = np.append(order, k)
            elif spoiler == "moved":
                places[k] += rng.uniform(0.3, 0.8) * step * rng.choice([axes[0], axes[1], np.cross(*axes)])
            else:
                frame_axes[k] = axes[::-1]
        path = tmp_path / "enhanced"
        write_enhanced(path, places[order], axes=axes, frame_axes=[frame_axes[k] for k in order])
        if seed % 2:
            with pytest.raises(InputError):
                read(path)
                pytest.fail(f"{seed}: {spoiler} was read")
        else:
            assert largest_error(read(path)[0]) < ROUNDING, seed


def test_damaged_headers_never_move_a_slice_and_never_end_in_a_traceback(tmp_path):
    """300 series with one to four random bytes of one slice's header changed; 100 enhanced files likewise."""
    rng = random.Random(5)
    (tmp_path / "enhanced").mkdir()
    enhanced = tmp_path / "enhanced" / "e.dcm"
    write_enhanced(enhanced, positions(4))
    paths = write_series(tmp_path / "series", positions(4))
    for path in [*(paths * 75), *([enhanced] * 100)]:
        sound = path.read_bytes()
        damaged = bytearray(sound)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(128, sound.rindex(b"\xe0\x7f\x10\x00") + 12)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            image, _ = read(path.parent)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert path == enhanced or whereabouts(image) == pytest.approx(TRUE_PLACE, abs=0.1)
        path.write_bytes(sound)


TRUE_PLACE = (9, 7, 4, -11, -8, -13, 3, 4, 5, 1, 0, 0, 0, 1, 0, 0, 0, 1)


def whereabouts(image):
    return (*image.GetSize(), *image.GetOrigin(), *image.GetSpacing(), *image.GetDirection())
