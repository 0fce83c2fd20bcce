"""The settings pickles of the original OpSeF, read without running anything of them.

`pickle` is not used: a pickle is a program that may call whatever Python can import. Here a
small machine does those of its instructions that make plain values, and knows no other.
The few names that numbers of numpy need are looked up in a table of this module, so no
module is imported and no function of another is called. `pickletools` only splits the file
into instructions.
"""

from __future__ import annotations

import codecs
import io
import pickletools
import re
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opsef_bridge.errors import InputError

__all__ = ["PARTS", "load_settings", "read_plain"]

PARTS = ("pc", "input_def", "run_def", "initModelSettings")
"""The four dictionaries of a run, in the order of the file."""

LARGEST = 2**20
"""Bytes of a file that is read; those of OpSeF have about 2,000."""

MOST = 100_000
"""Values that a file may hold, each counted as often as it is used."""

DEEPEST = 20
"""Containers within containers."""

_TYPES = {
    "bool", "bool_", "int_", "intc", "intp", "uint", "float_", "str_",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
}  # fmt: skip
_KNOWN = {
    "numpy": _TYPES | {"dtype"},
    "numpy.core.multiarray": {"scalar"},
    "numpy._core.multiarray": {"scalar"},
    # Bytes and sets of protocols below 3, by the names of Python 3 and 2.
    "_codecs": {"encode"},
    "builtins": {"bytes", "set", "frozenset"},
    "__builtin__": {"bytes", "set", "frozenset"},
}
"""The names that a settings file may ask for, by module."""

_NUMBER = re.compile(r"[biuf][1248]|U\d{1,4}")

_SCALARS = (str, bytes, bool, int, float, type(None))


@dataclass(frozen=True)
class _Name:
    """A name that the file asks for: a word, nothing that could be called."""

    module: str
    word: str

    def __str__(self) -> str:
        return f"{self.module}.{self.word}"


@dataclass
class _Dtype:
    """A dtype: its letter and size, and the byte order that comes later."""

    code: str
    order: str = "<"


_MARK = _Name("", "mark")


def load_settings(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read ``Parameter_<dataset>_Run_<ID>.pkl``.

    Parameters
    ----------
    path : path-like
        A pickle of ``[pc, input_def, run_def, initModelSettings]``, protocols 0 to 5.

    Returns
    -------
    dict
        The four dictionaries by these names, made of plain Python values: numbers of numpy
        are numbers, its dtypes and number types are their names.

    Raises
    ------
    InputError
        No such file, too large, damaged, or no settings of a run; or it asks for a name
        beyond the few that numbers of numpy need. Nothing of it was run.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", hint="Check it") from None
    value = read_plain(data, path.name)
    fits = isinstance(value, list | tuple) and len(value) == len(PARTS)
    if not fits or not all(isinstance(part, dict) for part in value):
        raise InputError(
            f"{path.name} holds no settings of a run of OpSeF ({reprlib.repr(value)})",
            hint="Bring Parameter_<dataset>_Run_<ID>.pkl from its folder my_runs "
            "(main_settings.pkl says nothing of a run)",
        )
    return {
        name: {str(key): entry for key, entry in part.items()}
        for name, part in zip(PARTS, value, strict=True)
    }


def read_plain(data: bytes, name: str = "the pickle") -> Any:
    """Return the plain value that a pickle describes; see `load_settings`.

    Examples
    --------
    >>> import pickle
    >>> read_plain(pickle.dumps([1, ("a", None), {"b": np.float32(0.5)}, np.uint8]))
    [1, ('a', None), {'b': 0.5}, 'uint8']
    >>> read_plain(pickle.dumps(print))
    Traceback (most recent call last):
        ...
    opsef_bridge.errors.InputError: the pickle asks for builtins.print...
    """
    if len(data) > LARGEST:
        raise InputError(
            f"{name} has more than {LARGEST} bytes",
            hint="Settings of OpSeF have about 2,000: this is another file",
        )
    try:
        return _Plain().value(_Machine().run(data))
    except InputError as error:
        raise InputError(
            f"{name} {error.message}",
            hint="Nothing of it was run. Bring the file as OpSeF wrote it, or move it away to "
            "import without settings",
        ) from None
    except Exception as error:  # damage shows as any kind: struct, Unicode, index, value
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{name} is no pickle, or is cut off or damaged ({said})",
            hint="Bring the file as OpSeF wrote it",
        ) from error


class _Machine:
    """Does the instructions of a pickle that make plain values."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """Return what the pickle leaves when it stops."""
        for name, argument in _instructions(data):
            if name == "STOP":
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _DOING:
                _DOING[name](self, argument)
            elif name not in ("PROTO", "FRAME"):
                raise InputError(f"wants to make an object ({name} {argument or self._top()})")
        raise InputError("does not end")

    def _top(self) -> str:
        return ", ".join(str(one) for one in self.stack[-2:] if isinstance(one, _Name))

    def since_mark(self) -> list[Any]:
        """Pop what was pushed since the last mark."""
        place = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def put(self, value: Any) -> None:
        self.stack.append(value)

    def tuple_of(self, count: int) -> None:
        values = tuple(self.stack[len(self.stack) - count :])
        if len(values) < count:
            raise IndexError("the stack is empty")
        del self.stack[len(self.stack) - count :]
        self.put(values)

    def extend(self, values: list[Any]) -> None:
        self.of(list).extend(values)

    def update(self, values: list[Any]) -> None:
        target = self.of(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_hashable(key)] = value

    def of(self, kind: type) -> Any:
        """Return the value on top, which must be a `kind`."""
        if type(self.stack[-1]) is not kind:
            raise InputError(f"adds to something that is no {kind.__name__}")
        return self.stack[-1]

    def ask(self, module: Any, word: Any) -> None:
        if word not in _KNOWN.get(module, ()):
            raise InputError(
                f"asks for {module}.{word}, which plain settings do not need; it may be meant to "
                "run code"
            )
        self.put(_Name(module, word))

    def call(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name) or name.word not in _CALLS or type(arguments) is not tuple:
            raise InputError(f"wants to call {name}")
        self.put(_CALLS[name.word](*arguments))

    def build(self) -> None:
        """Give a dtype its byte order; nothing else has a state."""
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _Dtype) or type(state) is not tuple:
            raise InputError(f"wants to change {target}")
        target.order = {"<": "<", ">": ">", "|": "|", "=": "="}[state[1]]


def _hashable(key: Any) -> Any:
    """Only plain keys: to hash tuples of tuples of tuples may take for ever."""
    if type(key) not in _SCALARS:
        raise InputError(f"has a key of the type {type(key).__name__}")
    return key


def _set_of(values: Any = ()) -> set[Any]:
    return {_hashable(value) for value in values}


def _dtype(code: Any, *_: Any) -> _Dtype:
    if isinstance(code, bytes):
        code = code.decode("ascii")
    if not isinstance(code, str) or not _NUMBER.fullmatch(code):
        raise InputError(f"has a dtype {code!r}, which is no number or text")
    return _Dtype(code)


def _scalar(dtype: Any, content: Any = None) -> Any:
    """Return a numpy scalar as Python's number or text."""
    if not isinstance(dtype, _Dtype):
        raise InputError("has a number of numpy without a dtype")
    kind = np.dtype(dtype.order.replace("|", "") + dtype.code)
    if isinstance(content, str):  # Python 2 has no bytes
        content = content.encode("latin-1")
    content = bytes(kind.itemsize) if content is None else content
    if not isinstance(content, bytes) or len(content) != kind.itemsize:
        raise InputError(f"has a number of the dtype {kind} of another length")
    return np.frombuffer(content, kind)[0].item()


def _encode(text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise InputError(f"has bytes in the encoding {encoding!r}")
    return text.encode("latin-1")


def _empty_bytes() -> bytes:
    """Protocols below 3 write no bytes like this, and all others by `_encode`."""
    return b""


_CALLS: dict[str, Callable[..., Any]] = {
    "dtype": _dtype,
    "scalar": _scalar,
    "encode": _encode,
    "bytes": _empty_bytes,
    "set": _set_of,
    "frozenset": _set_of,
}
"""What a call of a known name gives: functions of this module, never those of others."""

_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
"""Instructions whose argument is the value."""

_DOING: dict[str, Callable[[_Machine, Any], Any]] = {
    "NONE": lambda m, _: m.put(None),
    "NEWTRUE": lambda m, _: m.put(True),
    "NEWFALSE": lambda m, _: m.put(False),
    "MARK": lambda m, _: m.put(_MARK),
    "EMPTY_LIST": lambda m, _: m.put([]),
    "EMPTY_TUPLE": lambda m, _: m.put(()),
    "EMPTY_DICT": lambda m, _: m.put({}),
    "EMPTY_SET": lambda m, _: m.put(set()),
    "LIST": lambda m, _: m.put(m.since_mark()),
    "TUPLE": lambda m, _: m.put(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "DICT": lambda m, _: (values := m.since_mark(), m.put({}), m.update(values)),
    "FROZENSET": lambda m, _: m.put(_set_of(m.since_mark())),
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "SETITEM": lambda m, _: (m.tuple_of(2), m.update(list(m.stack.pop()))),
    "SETITEMS": lambda m, _: m.update(m.since_mark()),
    "ADDITEMS": lambda m, _: (values := m.since_mark(), m.of(set).update(_set_of(values))),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.since_mark(),
    "DUP": lambda m, _: m.put(m.stack[-1]),
    "MEMOIZE": lambda m, _: m.memo.update({len(m.memo): m.stack[-1]}),
    "GLOBAL": lambda m, names: m.ask(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: (m.tuple_of(2), m.ask(*map(str, m.stack.pop()))),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}
"""Instructions that do something with the stack."""
_DOING |= dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, number: m.put(m.memo[number]))
_DOING |= dict.fromkeys(
    ("PUT", "BINPUT", "LONG_BINPUT"), lambda m, number: m.memo.update({number: m.stack[-1]})
)

_CODES = {op.code.encode("latin-1"): op for op in pickletools.opcodes}


def _instructions(data: bytes) -> Iterator[tuple[str, Any]]:
    """Yield the name and the argument of every instruction."""
    file = io.BytesIO(data)
    while code := file.read(1):
        if code not in _CODES:
            raise ValueError(f"unknown instruction {code!r} at byte {file.tell() - 1}")
        op = _CODES[code]
        if op.name == "STRING":  # Python 2; pickletools takes no byte above 127
            quoted = pickletools.read_stringnl(file, decode=False)
            yield op.name, codecs.escape_decode(quoted)[0].decode("latin-1")
        else:
            yield op.name, None if op.arg is None else op.arg.reader(file)


class _Plain:
    """Turns what the machine leaves into plain values, as many as a person would write."""

    def __init__(self) -> None:
        self.count = 0

    def value(self, value: Any, depth: int = 0) -> Any:
        self.count += 1
        if self.count > MOST or depth > DEEPEST:
            raise InputError(f"holds more than {MOST} values, or {DEEPEST} within each other")
        if isinstance(value, dict):
            return {key: self.value(entry, depth + 1) for key, entry in value.items()}
        if isinstance(value, list | tuple | set):
            return type(value)(self.value(entry, depth + 1) for entry in value)
        if isinstance(value, _Name) and value.module == "numpy" and value.word in _TYPES:
            return value.word
        if isinstance(value, _Dtype):
            return str(np.dtype(value.code))
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
            raise InputError("holds a number of more than 64 bits")
        if type(value) not in _SCALARS:
            raise InputError(f"asks for {value}, which is no plain value")
        return value
