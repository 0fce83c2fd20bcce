"""Settings pickles: what OpSeF wrote is read, whatever else is refused and never run."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsef_bridge.errors import InputError
from opsef_bridge.exchange.pickles import LARGEST, PARTS, load_settings, read_plain

SETTINGS = [
    {"batch_size": 2, "toFiji": True, "get_property": ["label", "area"]},
    {"root": "/data/x", "mydtype": np.uint8, "patch_size": (15, 512, 512)},
    {"run_ID": "005", "clahe_prm": [(18, 18), 3], "rescale_list": [np.float64(0.4), None]},
    {"UNetShape": (1024, 1024), "UNetSettings": [{"padding": "same"}, {"momentum": 0.9}]},
]
PLAIN = dict(zip(PARTS, SETTINGS, strict=True)) | {
    "input_def": {"root": "/data/x", "mydtype": "uint8", "patch_size": (15, 512, 512)},
    "run_def": {"run_ID": "005", "clahe_prm": [(18, 18), 3], "rescale_list": [0.4, None]},
}


def written(folder: Path, data: bytes) -> Path:
    file = folder / "Parameter_x_Run_005.pkl"
    file.write_bytes(data)
    return file


def dumped(value: object, protocol: int) -> bytes:
    """Pickle as numpy 2 (names of `numpy._core`) does."""
    return pickle.dumps(value, protocol)


def as_old(data: bytes) -> bytes:
    """Give a pickle of protocols 0 to 3 the names that numpy 1.16 has."""
    return data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


@pytest.mark.parametrize("protocol", range(6))
def test_settings_of_every_protocol_become_plain_values(tmp_path, protocol):
    found = load_settings(written(tmp_path, dumped(SETTINGS, protocol)))
    assert found == PLAIN
    assert type(found["run_def"]["rescale_list"][0]) is float


@pytest.mark.parametrize("protocol", range(4))
def test_the_module_names_of_old_numpy_are_known(tmp_path, protocol):
    data = as_old(dumped(SETTINGS, protocol))
    assert b"numpy.core.multiarray" in data and b"_core" not in data
    assert load_settings(written(tmp_path, data)) == PLAIN


def test_a_pickle_that_python_2_wrote(tmp_path):
    # [{}, {'a': numpy.float64(1.5), u'b': 'Z\xe4hlung'}, {}, {}] by cPickle, protocol 0.
    scalar = (
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR"
        b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbS'\\x00\\x00\\x00\\x00\\x00\\x00\\xf8?'\ntR"
    )
    data = b"((dp1\n(dS'a'\n" + scalar + b"sVb\nS'Z\\xe4hlung'\ns(d(dl."
    assert load_settings(written(tmp_path, data))["input_def"] == {"a": 1.5, "b": "Zählung"}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.25), 0.25),
        (np.int16(-3), -3),
        (np.uint64(7), 7),
        (np.bool_(True), True),
        (np.str_("nuclei"), "nuclei"),
        (np.dtype(">u2").type(258), 258),
        (np.dtype("uint16"), "uint16"),
        (np.float32, "float32"),
        (b"\x00\xff", b"\x00\xff"),
        (b"", b""),
        ({1, 2}, {1, 2}),
        (frozenset({"a"}), {"a"}),
        (2**40, 2**40),
        (-1.5e300, -1.5e300),
    ],
)
@pytest.mark.parametrize("protocol", range(6))
def test_numbers_and_small_things(value, plain, protocol):
    found = read_plain(dumped(value, protocol))
    assert found == plain and type(found) is type(plain)


def test_bytes_of_the_other_order_are_turned():
    # `'>f4'` with its order as a state, as numpy on a big-endian machine writes it.
    data = (
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(Vf4\nI0\nI1\ntR"
        b"(I3\nV>\nNNNI-1\nI-1\nI0\ntbC\x04" + struct.pack(">f", 2.5) + b"tR."
    )
    assert read_plain(data) == 2.5


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=5), inner, max_size=5)
        | st.lists(inner, max_size=4).map(tuple)
    ),
    max_leaves=20,
)


@given(plain_values, st.integers(0, 5))
def test_plain_values_come_back_as_python_reads_them(value, protocol):
    data = pickle.dumps(value, protocol)
    assert read_plain(data) == pickle.loads(data) == value


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


@pytest.fixture
def evil(tmp_path) -> Path:
    """The file that a malicious pickle would make."""
    return tmp_path / "evil"


def malicious(evil: Path) -> dict[str, tuple[object, str]]:
    return {
        "os.system": (Call(os.system, f"touch {evil}"), "system"),
        "eval": (Call(eval, f"open({str(evil)!r}, 'w')"), "builtin.*eval"),
        "exec": (Call(exec, f"open({str(evil)!r}, 'w')"), "builtin.*exec"),
        "getattr": (Call(getattr, "text", "upper"), "builtin.*getattr"),
        "import": (Call(builtins.__import__, "os"), "builtin.*__import__"),
        "open": (Call(open, str(evil), "w"), "io.open"),
        "path": (Call(Path.touch, evil), "Path.touch|getattr|pathlib"),
        "numpy.load": (Call(np.load, str(evil), None, True), "numpy"),
        "numpy.fromfile": (Call(np.fromfile, str(evil)), "numpy"),
        "array": (np.arange(3), "_reconstruct|_frombuffer"),
        "class": (io.BytesIO, "_io.BytesIO"),
        "list subclass": (Call(list, (1, 2)), "builtin.*list"),
        "loads": (Call(pickle.loads, b"."), "pickle"),
    }


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", list(malicious(Path("x"))))
def test_what_would_run_code_is_refused_by_name_and_not_run(tmp_path, evil, name, protocol):
    value, said = malicious(evil)[name]
    file = written(tmp_path, dumped([{}, {"a": value}, {}, {}], protocol))
    with pytest.raises(InputError, match=said) as caught:
        load_settings(file)
    assert "Nothing of it was run" in caught.value.hint
    assert not evil.exists()


HAND_MADE = {
    "instance of Python 2": (b"(S'touch evil'\nios\nsystem\n.", "INST os system"),
    "object of Python 2": (b"(cos\nsystem\nS'touch evil'\no.", "os.system"),
    "dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.", "dtype.__class__"),
    "dunder of a known module": (b"cnumpy\n__loader__\n.", "numpy.__loader__"),
    "call of a number type": (b"cnumpy\nuint8\n(I5\ntR.", "call numpy.uint8"),
    "call of text": (b"V__import__\n(Vos\ntR.", "call __import__"),
    "new object": (b"\x80\x02cnumpy\ndtype\n)\x81.", "NEWOBJ numpy.dtype"),
    "state of a name": (b"cnumpy\ndtype\n}b.", "change numpy.dtype"),
    "state of a list": (b"]}b.", "change"),
    "object dtype": (b"cnumpy\ndtype\n(VO8\nI0\nI1\ntR.", "dtype 'O8'"),
    "structured dtype": (b"cnumpy\ndtype\n(VV16\nI0\nI1\ntR.", "dtype 'V16'"),
    "scalar of an object": (
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\nVx\ntR.",
        "without a dtype",
    ),
    "scalar of another length": (
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(Vf8\nI0\nI1\ntRVx\ntR.",
        "another length",
    ),
    "bytes by number": (b"cbuiltins\nbytes\n(I99999999999\ntR.", "damaged"),
    "codec": (b"c_codecs\nencode\n(Vx\nVzip\ntR.", "encoding 'zip'"),
    "persistent id": (b"Pos.system\n.", "PERSID os.system"),
    "extension": (b"\x82\x01.", "EXT1"),
    "out of band": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "bare callable": (b"cnumpy\ndtype\n.", "no plain value"),
    "list as a key": (b"}]I1\ns.", "key of the type list"),
    "append to text": (b"Vx\nI1\na.", "no list"),
    "large number": (pickle.dumps(10**300), "64 bits"),
    "holds itself": (b"]q\x00h\x00a.", "within each other"),
    "mark": (b"(.", "no plain value"),
}


@pytest.mark.parametrize("name", list(HAND_MADE))
def test_pickles_made_by_hand_are_refused(name):
    data, said = HAND_MADE[name]
    with pytest.raises(InputError, match=said):
        read_plain(data)


GOOD = pickle.dumps(SETTINGS)


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff" * 9, b"I1\n", b"."], ids=repr)
def test_what_is_no_pickle_is_said_to_be_none(tmp_path, data):
    with pytest.raises(InputError, match=r"no pickle|does not end"):
        load_settings(written(tmp_path, data))


@pytest.mark.parametrize("size", range(0, len(GOOD), 7))
def test_a_pickle_cut_off_anywhere_is_refused(size):
    with pytest.raises(InputError):
        read_plain(GOOD[:size])


@given(st.binary(max_size=80))
def test_noise_is_refused_or_plain(data):
    try:
        value = read_plain(data)
    except InputError:
        return
    assert pickle.loads(pickle.dumps(value)) is not Ellipsis  # plain values pickle


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_one_wrong_byte_runs_nothing(place, byte):
    damaged = bytearray(GOOD)
    damaged[place] = byte
    try:
        value = read_plain(bytes(damaged))
    except InputError:
        return
    assert isinstance(value, list | dict | tuple | str | int | float | bytes | set | None)


def nested(levels: int) -> bytes:
    """A list of two of a list of two of ... : 2**levels values in a few bytes."""
    return b"]" + b"q\x00]h\x00ah\x00a" * levels + b"."


BOMBS = {
    "doubling": b"I1\n" + b"2\x86" * 60 + b".",
    "doubling list": nested(60),
    "deep": b"]" * 5000 + b"a" * 4999 + b".",
    "memo": b"I1\nr\xff\xff\xff\x7f0.",  # Python's own unpickler makes room for 2**31 places
    "length": b"\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b".",
    "doubling key": b"}I1\n" + b"2\x86" * 60 + b"I1\ns.",
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_bombs_cost_neither_time_nor_memory(name):
    """Of what doubles sixty times nobody would see the end."""
    tracemalloc.start()
    with pytest.raises(InputError):
        read_plain(BOMBS[name])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    file = tmp_path / "large.pkl"
    with file.open("wb") as opened:
        opened.truncate(2**36)  # a hole: takes no room on the disk
    with pytest.raises(InputError, match=f"more than {LARGEST} bytes"):
        load_settings(file)


@pytest.mark.parametrize(
    "value", [[{}, ["00_InputRaw"]], {}, [{}, {}, {}], [{}, {}, {}, []], "settings", None]
)
def test_other_pickles_are_no_settings(tmp_path, value):
    with pytest.raises(InputError, match="no settings of a run") as caught:
        load_settings(written(tmp_path, pickle.dumps(value)))
    assert "main_settings.pkl" in caught.value.hint


def test_a_missing_file_and_a_folder_are_said(tmp_path):
    with pytest.raises(InputError, match=r"none\.pkl cannot be read"):
        load_settings(tmp_path / "none.pkl")
    with pytest.raises(InputError, match="cannot be read"):
        load_settings(tmp_path)
