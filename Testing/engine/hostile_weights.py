"""Weight files that nobody means well with: each is small, and reads as a monster where nothing is checked first."""

import json
import math
import struct
import warnings
import zipfile

import torch


def pickled(*steps):
    """A pickle of protocol 2 from its steps."""
    return b"\x80\x02" + b"".join(steps) + b"."


def text(value):
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def whole(number):
    return b"J" + struct.pack("<i", number)


def called(name, *arguments):
    """The call of a function with a tuple of arguments."""
    module, _, function = name.rpartition(".")
    return b"c" + f"{module}\n{function}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def storage(count, key="0", kind="FloatStorage"):
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + whole(count) + b"tQ"


def tensor(count, shape, stride, offset=0):
    """A view into a storage of `count` numbers."""
    sizes = b"(" + b"".join(map(whole, shape)) + b"t"
    strides = b"(" + b"".join(map(whole, stride)) + b"t"
    empty = called("collections.OrderedDict")
    return called("torch._utils._rebuild_tensor_v2", storage(count), whole(offset), sizes, strides, b"\x89", empty)


def named(**values):
    """A dictionary."""
    return b"}(" + b"".join(text(name) + value for name, value in values.items()) + b"u"


def archive(path, content, numbers=b"", compressed=False, more=()):
    """A checkpoint of torch with this pickle and one storage."""
    how = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    parts = [("archive/data.pkl", content), ("archive/byteorder", b"little"), ("archive/data/0", numbers)]
    parts += [("archive/version", b"3\n"), *more]
    with zipfile.ZipFile(path, "w", how) as file:
        for name, part in parts:
            file.writestr(name, part)


def plain(path):
    """A sound file made by these means."""
    archive(path, pickled(named(w=tensor(6, (2, 3), (3, 1)))), struct.pack("<6f", *range(6)))


def self_referring(path):
    archive(path, pickled(b"}q\x00", text("model"), b"h\x00s"))


def wheel_within_wheel(path):
    """Two dictionaries that hold each other."""
    archive(path, pickled(b"}q\x00", text("model"), b"}q\x01", text("model"), b"h\x00ss"))


def swelling(path, megabytes=200):
    archive(path, pickled(named(w=tensor(1, (1,), (1,)))), bytes(megabytes * 2**20), compressed=True)


def swelling_pickle(path):
    archive(path, b"\x80\x02" + b"N" * (100 * 2**20) + b".", compressed=True)


def long_pickle(path):
    archive(path, b"\x80\x02" + b"N" * (9 * 2**20) + b".")


def many_steps(path):
    archive(path, b"\x80\x02" + b"N" * (4 * 2**20) + b".")


def overlapping_parts(path):
    """Ten thousand names of one part: each is small, all together are not."""
    plain(path)
    more = [(f"archive/data/{i}", b"") for i in range(1, 10_000)]
    archive(path, pickled(named(w=tensor(6, (6,), (1,)))), bytes(24), more=more)
    content = bytearray(path.read_bytes())
    first = content.index(b"PK\x01\x02")
    at = first
    while (at := content.find(b"PK\x01\x02", at)) >= 0:
        content[at + 20 : at + 28] = struct.pack("<2I", 10**6, 10**6)
        at += 46
    path.write_bytes(content)


def huge_directory(path):
    """The end of the archive says that its directory has two gigabytes."""
    plain(path)
    content = bytearray(path.read_bytes())
    end = content.index(b"PK\x05\x06")
    content[end + 12 : end + 16] = struct.pack("<I", 2**31 - 1)
    path.write_bytes(content)


def wide_laughter(path):
    """A tuple of tuples of tuples, each ten times the last, as the key of a dictionary."""
    steps = [b"(" * 31, b"N" * 10, b"tq\x00"]
    for level in range(30):
        steps += [b"h" + bytes([level])] * 9 + [b"tq" + bytes([level + 1])]
    archive(path, pickled(b"}", *steps, b"Ns"))


def deep_laughter(path):
    """A tuple in a tuple in a tuple, as the key of a dictionary: its hash goes as deep."""
    archive(path, pickled(b"}N", b"\x85" * 500_000, b"Ns"))


def deep_dictionaries(path):
    archive(path, pickled((b"}" + text("model")) * 100_000, b"N", b"s" * 100_000))


def giant_bytes(path):
    archive(path, pickled(named(w=b"c__builtin__\nbytearray\n" + whole(2**31 - 1) + b"\x85R")))


def giant_tensor(path):
    archive(path, pickled(named(w=called("torch.FloatTensor", whole(2**30), whole(2**10)))))


def promised_storage(path):
    """A storage that the archive does not hold in full."""
    archive(path, pickled(named(w=tensor(10**9, (10**9,), (1,)))), bytes(24))


def negative_storage(path):
    archive(path, pickled(named(w=tensor(-6, (2, 3), (3, 1)))), bytes(24))


def outside_storage(path):
    archive(path, pickled(named(w=tensor(6, (2, 3), (300_000, 1)))), bytes(24))


def expanded(path):
    """Ten to the fifteen values that are one."""
    content = named(pos_embed=tensor(1, (10**9, 10**6), (0, 0)))
    archive(path, pickled(content), bytes(4))


def without_strides(path):
    archive(path, pickled(named(w=tensor(6, (2, 3), (1,)))), bytes(24))


def wild_name(path):
    archive(path, pickled(b"}(", text("w\n\x1b[31m" * 3), tensor(6, (2, 3), (3, 1)), b"u"), bytes(24))


def long_name(path):
    archive(path, pickled(b"}(", text("w" * 10**6), tensor(6, (2, 3), (3, 1)), b"u"), bytes(24))


def sparse(path):
    torch.save({"w": torch.eye(3).to_sparse()}, path)


def quantised(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch means to give them up
        torch.save({"w": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, path)


def complex_numbers(path):
    torch.save({"w": torch.ones(3, dtype=torch.complex64)}, path)


def without_values(path):
    torch.save({"w": torch.empty(3, device="meta")}, path)


def protocol_4(path):
    torch.save({"w": torch.ones(3)}, path, pickle_protocol=4)


def legacy_promise(path):
    """The form before torch 1.6, with a storage of a hundred gigabytes that is not there."""
    torch.save({"w": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    one = text("cpu")[5:]
    at = content.index(one) + len(one)
    at = content.index(b"K\x01", at)  # the length of the storage
    path.write_bytes(content[:at] + whole(2**31 - 1) + content[at + 2 :])


def header(path, content, numbers=b""):
    path.write_bytes(struct.pack("<Q", len(content)) + content + numbers)


def described(**changes):
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **changes}
    return json.dumps({"w": entry}).encode()


def large_header(path):
    header(path, b'{"' + b"x" * (20 * 2**20) + b'":1}')


def crowded_header(path):
    header(path, b'{"a":[' + b"{}," * (5 * 2**20) + b"{}]}")


def deep_header(path):
    header(path, b'{"a":' + b"[" * 10**6 + b"]" * 10**6 + b"}")


def infinite_header(path):
    header(path, described(data_offsets=[0, math.inf]), bytes(24))


def nan_header(path):
    header(path, described(shape=[math.nan]), bytes(24))


def huge_number_header(path):
    header(path, described().replace(b"24", b"1" + b"0" * 3000), bytes(24))


def twice_header(path):
    header(path, described()[:-1] + b"," + described()[1:], bytes(24))


def list_header(path):
    header(path, b"{" + b'"w":[1,2]}', bytes(24))


def promised_header(path):
    path.write_bytes(struct.pack("<Q", 2**40) + b'{"')


def negative_header(path):
    header(path, described(shape=[-2, -3]), bytes(24))


def giant_shape_header(path):
    header(path, described(shape=[2**62, 2**62]), bytes(24))


MONSTERS = [
    self_referring,
    wheel_within_wheel,
    swelling,
    swelling_pickle,
    long_pickle,
    many_steps,
    overlapping_parts,
    huge_directory,
    wide_laughter,
    deep_laughter,
    deep_dictionaries,
    giant_bytes,
    giant_tensor,
    promised_storage,
    negative_storage,
    outside_storage,
    expanded,
    without_strides,
    wild_name,
    long_name,
    sparse,
    quantised,
    complex_numbers,
    without_values,
    protocol_4,
    legacy_promise,
    large_header,
    crowded_header,
    deep_header,
    infinite_header,
    nan_header,
    huge_number_header,
    twice_header,
    list_header,
    promised_header,
    negative_header,
    giant_shape_header,
]
