"""The files that torch.save writes, without torch, and without running what a pickle says.

    NAME/data.pkl    a pickle of {tensor's name: storage, offset, shape, strides}
    NAME/data/0      the values of storage "0", and so on
    NAME/byteorder   "little"
    NAME/version     "3"

in a .zip without compression. The pickle is read by the few steps below, each of which makes a
number, a text, a tuple, a dict or a tensor; a pickle with another step is refused.

torch before 1.6 wrote, without a .zip, one pickle after the other and then the values:

    a magic number, 1001, a dict of the sizes of numbers
    the pickle as above
    the list of the storages' names
    for each of these: its count of numbers as 8 bytes, and the numbers
"""
import io
import math
import pickletools
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes
import numpy as np

from adapter_bert import files
from adapter_bert.errors import InputError

BYTES_LIMIT = 1 << 31
PICKLE_LIMIT, MEMBERS_LIMIT, AXES_LIMIT = 1 << 20, 10_000, 8
_DTYPES = {"torch FloatStorage": np.dtype("<f4"), "torch HalfStorage": np.dtype("<f2"),
           "torch BFloat16Storage": np.dtype(ml_dtypes.bfloat16)}
_INTEGERS = {"torch LongStorage": np.dtype("<i8")}
# How a file of torch before 1.6 begins: the pickle of its magic number.
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_PICKLES = 5
_END = struct.Struct("<4s4x2H2IH")          # signature, members (twice), size, offset, comment
_MEMBER = struct.Struct("<4s4x2H4x3I3H8xI")  # of the directory: signature, flags, method, crc,
                                             # size packed and not, name, extra, comment, offset
_LOCAL = struct.Struct("<4s22x2H")          # before a member's bytes: signature, name, extra


def read(path: str, limit: int = BYTES_LIMIT, integers: bool = False) -> dict[str, np.ndarray]:
    """The tensors of a file that torch.save wrote from a dict of them.

    Args:
      path: of the file.
      limit: the most bytes that it may have.
      integers: whether int64 tensors, such as a BERT's buffer of positions, are read too.

    Returns:
      {name: float32, float16, bfloat16 or int64 array}, read-only.

    Raises:
      InputError: it is no such file, it is damaged, or it holds anything but tensors.
    """
    with files.open_plain(path, limit) as file:
        content = file.read()
    dtypes = {**_DTYPES, **(_INTEGERS if integers else {})}
    try:
        if content.startswith(_LEGACY_START):
            return _legacy_tensors(content, dtypes)
        return _tensors(memoryview(content), dtypes)
    except ValueError as error:
        raise InputError(f"{path}: {error}; load it where it was made and save it again as "
                         "safetensors") from error


def to_bytes(tensors):
    """The bytes of a file that torch.load reads, with weights_only too, as {name: tensor}.

    Args:
      tensors: {name: float32 array}.
    """
    arrays = [np.ascontiguousarray(value, "<f4") for value in tensors.values()]
    rows = b"".join(_pickled(name, key, value)
                    for key, (name, value) in enumerate(zip(tensors, arrays, strict=True)))
    members = {"data.pkl": b"\x80\x02}(" + rows + b"u.", "byteorder": b"little",
               **{f"data/{key}": value.tobytes() for key, value in enumerate(arrays)},
               "version": b"3\n"}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(f"archive/{name}")   # dated 1980
            member.create_system, member.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            archive.writestr(member, content)
    return buffer.getvalue()


def _pickled(name, key, value):
    """The steps of a pickle that put a tensor's name and the tensor on the stack."""
    strides = [stride // value.itemsize for stride in value.strides]
    storage = _tuple(_text("storage"), b"ctorch\nFloatStorage\n", _text(str(key)), _text("cpu"),
                     _number(value.size))
    hooks = b"ccollections\nOrderedDict\n)R"
    tensor = _tuple(storage + b"Q", _number(0), _tuple(*map(_number, value.shape)),
                    _tuple(*map(_number, strides)), b"\x89", hooks)
    return _text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n" + tensor + b"R"


def _text(text):
    encoded = text.encode("utf-8")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _number(number):
    return b"J" + struct.pack("<i", number)


def _tuple(*items):
    return b"(" + b"".join(items) + b"t"


class _Member(NamedTuple):
    """A file of the .zip, its bytes and their checksum."""

    content: memoryview
    crc: int

    def checked(self):
        if zlib.crc32(self.content) != self.crc:
            raise ValueError("damaged: a checksum is wrong")
        return self.content


def _tensors(content, dtypes):
    """{name: array} of the bytes of a file."""
    members = _members(content)
    folders = {name.partition("/")[0] for name in members}
    folder = folders.pop() if len(folders) == 1 else None
    pickled = members.get(f"{folder}/data.pkl")
    if not pickled:
        raise ValueError("a .zip without the data.pkl of torch.save")
    if len(pickled.content) > PICKLE_LIMIT:
        raise ValueError(f"a pickle of more than {PICKLE_LIMIT:,} bytes")
    order = members.get(f"{folder}/byteorder")
    if order and bytes(order.checked()) != b"little":
        raise ValueError("its numbers are not little-endian")
    def storage(key, dtype, count):
        del count
        member = members[f"{folder}/data/{key}"]
        if len(member.content) % dtype.itemsize:
            raise ValueError("a storage cut off within a number")
        return np.frombuffer(member.checked(), dtype)

    return _checked(_run(bytes(pickled.checked()), _Pickle(storage, dtypes)))


def _checked(result):
    """`result`, which must be a dict of tensors."""
    if type(result) is not dict or not all(type(value) is np.ndarray for value in result.values()):
        raise ValueError("it holds something else than a dict of tensors")
    return result


def _legacy_tensors(content, dtypes):
    """{name: array} of the bytes of a file that torch before 1.6 wrote.

    The pickle of the tensors stands before their values and is needed to find them, so that it is
    run twice: at first each storage is a single 0 that stands for all of its numbers.
    """
    codes, place = _split_pickles(content)
    dtype_of = {}

    def unread(key, dtype, count):
        if dtype_of.setdefault(key, dtype) is not dtype or not 0 <= count <= len(content):
            raise ValueError("a storage that cannot be")
        return np.broadcast_to(np.zeros(1, dtype), count)

    _checked(_run(codes[3], _Pickle(unread, dtypes)))
    storages, keys = {}, _run(codes[4], _Pickle(unread, dtypes))
    if type(keys) is not list or {key for key in keys if type(key) is str} != dtype_of.keys():
        raise ValueError("damaged: its list of storages is not that of its tensors")
    for key in keys:
        (count,) = _unpack(struct.Struct("<q"), content, place)
        dtype, place = dtype_of[key], place + 8
        if not 0 <= count <= (len(content) - place) // dtype.itemsize:
            raise ValueError("cut off or damaged")
        storages[key] = np.frombuffer(content, dtype, count, place)
        place += count * dtype.itemsize
    return _checked(_run(codes[3], _Pickle(lambda key, *_: storages[key], dtypes)))


def _split_pickles(content):
    """The bytes of each pickle at the start of a file, and where the last one ends."""
    stream, codes = io.BytesIO(content), []
    for _ in range(_LEGACY_PICKLES):
        begin = stream.tell()
        try:
            for _, _, position in pickletools.genops(stream):
                if position - begin > PICKLE_LIMIT:
                    raise ValueError(f"a pickle of more than {PICKLE_LIMIT:,} bytes")
        except (IndexError, KeyError, TypeError, OverflowError) as error:
            raise ValueError("damaged: its pickle cannot be followed") from error
        codes.append(content[begin:stream.tell()])
    return codes, stream.tell()


def _members(content):
    """{name: _Member} of the bytes of a .zip; nothing is unpacked."""
    if bytes(content[:4]) != b"PK\3\4":
        raise ValueError("no .zip as torch.save makes it, nor what torch before 1.6 wrote")
    here = len(content) - _END.size
    signature, count, also, size, offset, comment = _unpack(_END, content, here)
    if signature != b"PK\5\6" or comment or count != also or offset + size > here:
        raise ValueError("cut off or damaged: the end of its .zip is missing")
    if count > MEMBERS_LIMIT:
        raise ValueError(f"a .zip of more than {MEMBERS_LIMIT:,} files")
    members = {}
    for _ in range(count):
        name, member, offset = _member(content, offset)
        if members.setdefault(name, member) is not member:
            raise ValueError("a .zip with two files of one name")
    if sum(len(member.content) for member in members.values()) > len(content):
        raise ValueError("a .zip with files that overlap")
    return members


def _member(content, offset):
    """The name and the _Member at an offset of the directory, and the offset of the next."""
    signature, flags, method, crc, packed, size, name, extra, comment, start = _unpack(
        _MEMBER, content, offset)
    if signature != b"PK\1\2":
        raise ValueError("damaged: its .zip has no directory")
    if method or packed != size or flags & 1:
        raise ValueError("a .zip that is compressed or encrypted, as torch.save makes none")
    offset += _MEMBER.size
    text = str(content[offset:offset + name], "utf-8")
    signature, *local = _unpack(_LOCAL, content, start)
    start += _LOCAL.size + sum(local)
    if signature != b"PK\3\4" or start + size > len(content):
        raise ValueError("damaged: a file of its .zip is not where its directory says")
    return text, _Member(content[start:start + size], crc), offset + name + extra + comment


def _unpack(layout, content, offset):
    if not 0 <= offset <= len(content) - layout.size:
        raise ValueError("cut off or damaged")
    return layout.unpack_from(content, offset)


class _Global(str):
    """The name of something of Python's that a pickle asks for; never looked up."""


_MARK = object()


class _Pickle:
    """The stack and the memo of a pickle of tensors.

    Args:
      storage: function (name, dtype, count of numbers) -> array of rank 1.
      dtypes: {name of a storage's class: dtype} of what is read.
    """

    def __init__(self, storage, dtypes):
        self.stack, self._memo, self._storages = [], {}, {}
        self._storage, self._dtypes = storage, dtypes

    def push(self, value):
        self.stack.append(value)

    def put(self, index):
        self._memo[index] = self.stack[-1]

    def get(self, index):
        self.push(self._memo[index])

    def push_global(self, name):
        if name not in self._dtypes and name not in _CALLS:
            known = ", ".join(dtype.name for dtype in self._dtypes.values())
            raise ValueError(f"refused: it asks for {name[:60]!r}, which tensors of {known} do "
                             "not need")
        self.push(_Global(name))

    def since_mark(self):
        """What is on the stack since the last mark; it and the mark go."""
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def push_tuple(self, count):
        self.push(tuple([self.stack.pop() for _ in range(count)][::-1]))

    def call(self):
        arguments, name = self.stack.pop(), self.stack.pop()
        if type(name) is not _Global or type(arguments) is not tuple:
            raise ValueError("damaged: its pickle calls no function")
        self.push(_CALLS[name](*arguments))

    def set_items(self, items):
        found = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(found) is not dict or type(key) is not str or key in found:
                raise ValueError("a tensor's name that is no text, or is there twice")
            found[key] = value

    def append_items(self, _):
        """Puts what is on the stack since the last mark into the list before it."""
        items = self.since_mark()
        if type(self.stack[-1]) is not list:
            raise ValueError("damaged: its pickle appends to no list")
        self.stack[-1].extend(items)

    def push_storage(self):
        """The array of the file that the tuple on the stack names, which takes its place."""
        kind, name, key, _, count, *view = self.stack.pop()
        if (type(kind), type(name), type(key), type(count), kind) != (
                str, _Global, str, int, "storage") or view not in ([], [None]):
            raise ValueError("damaged: its pickle names no storage")
        if key not in self._storages:
            self._storages[key] = self._storage(key, self._dtypes[name], count)
        if self._storages[key].dtype != self._dtypes[name] or self._storages[key].size != count:
            raise ValueError(f"a storage of {self._storages[key].size} numbers that says {count}")
        self.push(self._storages[key])


def _tensor(storage, offset, shape, strides, *_):
    """The part of a storage that is a tensor: a row of its numbers, in some order of the axes.

    Args:
      storage: array of rank 1.
      offset: int, where the row begins.
      shape: tuple of ints.
      strides: tuple of ints, counted in numbers.
    """
    if type(storage) is not np.ndarray or storage.ndim != 1:
        raise ValueError("a tensor without a storage")
    if not (_are_sizes((offset,)) and _are_sizes(shape) and _are_sizes(strides)
            and len(shape) == len(strides) <= AXES_LIMIT):
        raise ValueError("a tensor with a shape that cannot be")
    axes = sorted(range(len(shape)), key=lambda axis: -strides[axis])   # the slowest first
    ordered, count = [shape[axis] for axis in axes], math.prod(shape)
    is_row = all(strides[axis] == math.prod(ordered[place + 1:])
                 for place, axis in enumerate(axes) if shape[axis] != 1)
    if not is_row or offset + count > storage.size:
        raise ValueError("a tensor that is not one piece of its storage")
    return storage[offset:offset + count].reshape(ordered).transpose(np.argsort(axes))


def _are_sizes(values):
    return type(values) is tuple and all(type(value) is int and value >= 0 for value in values)


_CALLS: dict[str, Callable] = {
    "collections OrderedDict": lambda: {}, "torch._utils _rebuild_tensor_v2": _tensor}


def _ignore(pickle, _):
    """PROTO says nothing of use; STOP ends the loop."""


def _constant(make):
    return lambda pickle, _: pickle.push(make())


def _argument(pickle, argument):
    pickle.push(argument)


# What torch.save writes; BUILD gives a dict its attribute _metadata, which no number depends on.
_STEPS: dict[str, Callable] = {
    **dict.fromkeys(("PROTO", "STOP"), _ignore),
    **dict.fromkeys(("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"), _argument),
    "NONE": _constant(lambda: None), "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False), "EMPTY_DICT": _constant(dict),
    "MARK": _constant(lambda: _MARK), "EMPTY_TUPLE": lambda pickle, _: pickle.push_tuple(0),
    "TUPLE1": lambda pickle, _: pickle.push_tuple(1),
    "TUPLE2": lambda pickle, _: pickle.push_tuple(2),
    "TUPLE3": lambda pickle, _: pickle.push_tuple(3),
    "TUPLE": lambda pickle, _: pickle.push(tuple(pickle.since_mark())),
    "EMPTY_LIST": _constant(list), "APPENDS": _Pickle.append_items,
    "BINPUT": _Pickle.put, "LONG_BINPUT": _Pickle.put, "BINGET": _Pickle.get,
    "LONG_BINGET": _Pickle.get, "GLOBAL": _Pickle.push_global,
    "REDUCE": lambda pickle, _: pickle.call(),
    "BINPERSID": lambda pickle, _: pickle.push_storage(),
    "SETITEM": lambda pickle, _: pickle.set_items([pickle.stack.pop(-2), pickle.stack.pop()]),
    "SETITEMS": lambda pickle, _: pickle.set_items(pickle.since_mark()),
    "BUILD": lambda pickle, _: pickle.stack.pop(),
}


def _run(code, pickle):
    """What the bytes of a pickle leave on the stack."""
    try:
        for step, argument, _ in pickletools.genops(code):
            if step.name not in _STEPS:
                raise ValueError(f"refused: its pickle does {step.name}, which tensors do not need")
            _STEPS[step.name](pickle, argument)
        return pickle.stack.pop()
    except (IndexError, KeyError, TypeError, OverflowError) as error:
        raise ValueError("damaged: its pickle cannot be followed") from error
