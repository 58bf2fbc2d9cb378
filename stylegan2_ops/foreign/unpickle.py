"""Read pickles of weights without running anything in them.

A pickle is a program for a small stack machine. Python's runs any function that the program
names; this one knows a few names, all of which mean data, and turns the rest down. No object of
a foreign class is ever made: what a class left behind becomes a `Record` of its name and state.

By hand, because `torch.load(weights_only=True)` refuses files that hold objects of other classes,
as those of the StyleGAN papers do.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stylegan2_ops.foreign.inert import (
    ALLOWED,
    CALLS,
    DICTS,
    RECORDS,
    Array,
    BadCheckpoint,
    Dtype,
    Name,
    Record,
    Storage,
    make_array,
    members,
    set_items,
)

MAX_OPCODES = 1_000_000
_MARK = object()


@dataclass
class Budget:
    """What is left for reading one file, the streams within it included.

    A pickle can name the same data again and again, so that a short one asks for endless work.

    Attributes:
        volume: bytes that calls may still make.
        opcodes: instructions that may still be followed.
    """

    volume: int
    opcodes: int = MAX_OPCODES

    @classmethod
    def of(cls, length: int) -> Budget:
        """For a file of so many bytes; a sound one takes less than twice its length."""
        return cls(4 * length + 1_000_000)

    def spend(self, size: int) -> None:
        """Take some of the volume.

        Raises:
            BadCheckpoint: there is no more.
        """
        self.volume -= size
        if self.volume < 0:
            raise BadCheckpoint("asks for far more memory than its length explains")


LoadStorage = Callable[[Any], Storage]
LoadBytes = Callable[[bytes], Any]


def _no_storage(identity: Any) -> Storage:
    raise BadCheckpoint("refers to an object outside the pickle")


def _no_bytes(data: bytes) -> Any:
    raise BadCheckpoint("holds a pickle within a pickle")


class Unpickler:
    """The stack machine.

    Args:
        data: pickles, one after the other.
        load_storage: gives the storage of a persistent id.
        load_bytes: reads the stream that a pickled torch storage holds.
        budget: shared by all that read one file.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        load_storage: LoadStorage = _no_storage,
        load_bytes: LoadBytes = _no_bytes,
        budget: Budget | None = None,
    ) -> None:
        self.data = memoryview(data)
        self.position = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.load_storage, self.load_bytes = load_storage, load_bytes
        self.budget = budget or Budget.of(len(self.data))
        self.spend = self.budget.spend

    def load(self) -> Any:
        """The next object.

        Raises:
            BadCheckpoint: it names something that is not allowed, or is damaged.
        """
        self.stack, self.memo = [], {}
        stream = _Window(self.data, self.position)
        try:
            for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
                self.budget.opcodes -= 1
                if self.budget.opcodes < 0:
                    raise BadCheckpoint(f"more than {MAX_OPCODES:,} instructions")
                if opcode.name == "STOP":
                    break
                step = _STEPS.get(opcode.name)
                if step is None:
                    raise BadCheckpoint(f"uses the instruction {opcode.name}, which is not allowed")
                step(self, argument)
            self.position = stream.position
            (value,) = self.stack
        except BadCheckpoint:
            raise
        except Exception as error:  # whatever is wrong with it, it is the file's fault
            said = str(error).splitlines() or [""]
            raise BadCheckpoint(f"damaged: {type(error).__name__}: {said[0][:100]}") from None
        if isinstance(value, Name) or value is _MARK:
            raise BadCheckpoint("damaged: holds no object")
        return value

    def _pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise BadCheckpoint("damaged: a value is missing")
        return value

    def _pop_to_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise BadCheckpoint("damaged: a mark is missing")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def _global(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise BadCheckpoint("damaged: a name that is no text")
        known = Name(module, name)
        if str(known) not in ALLOWED:
            raise BadCheckpoint(f"names {str(known)[:80]!r}, which is not allowed")
        self.stack.append(known)

    def _stack_global(self) -> None:
        name = self._pop()
        self._global(self._pop(), name)

    def _append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise BadCheckpoint("damaged: items of what is no list")
        target.extend(values)

    def _add(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, set):
            raise BadCheckpoint("damaged: members of what is no set")
        target.update(members(values))

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise BadCheckpoint("calls what is no function")
        call = CALLS.get(str(function))
        if call is None:
            raise BadCheckpoint(f"calls {str(function)!r}, which is not allowed")
        self.stack.append(call(self, *arguments))

    def _new(self) -> None:
        arguments, made = self._pop(), self._pop()
        if not isinstance(made, Name) or arguments != ():
            raise BadCheckpoint("makes an object with arguments")
        if str(made) in DICTS:
            self.stack.append({})
        elif str(made) in RECORDS:
            self.stack.append(Record(str(made)))
        else:
            raise BadCheckpoint(f"makes an object of {str(made)!r}, which is not allowed")

    def _build(self) -> None:
        state, target = self._pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif isinstance(target, Dtype):
            if not isinstance(state, tuple) or state[1] not in ("<", ">", "|", "="):
                raise BadCheckpoint("an array of an unknown byte order")
            if any(part is not None for part in state[2:5]):
                raise BadCheckpoint("an array of structures")
            target.order = state[1]
        elif isinstance(target, Array):
            _, shape, dtype, fortran, raw = state
            target.value = make_array(self, raw, dtype, shape, "F" if fortran else "C")
        elif not isinstance(target, dict):  # a dictionary's attributes are of no use
            raise BadCheckpoint(f"sets the state of a {type(target).__name__}")

    def _persistent(self) -> None:
        self.stack.append(self.load_storage(self._pop()))


class _Window:
    """A file-like view for `pickletools.genops`, which copies nothing but what it returns."""

    def __init__(self, data: memoryview, position: int) -> None:
        self.data, self.position = data, position

    def read(self, count: int) -> bytes:
        found = bytes(self.data[self.position : self.position + count])
        self.position += len(found)
        return found

    def readline(self) -> bytes:
        # Lines are names and decimal numbers; none needs more.
        start = bytes(self.data[self.position : self.position + 4096])
        end = start.find(b"\n") + 1
        if not end:
            raise BadCheckpoint("damaged: a line without an end")
        self.position += end
        return start[:end]

    def tell(self) -> int:
        return self.position


def _push(machine: Unpickler, argument: Any) -> None:
    machine.stack.append(argument)


def _constant(value: Any) -> Callable[[Unpickler, Any], None]:
    return lambda machine, argument: machine.stack.append(value)


def _fresh(make: Callable[[], Any]) -> Callable[[Unpickler, Any], None]:
    return lambda machine, argument: machine.stack.append(make())


def _tuple_of(count: int) -> Callable[[Unpickler, Any], None]:
    def step(machine: Unpickler, argument: Any) -> None:
        values = [machine._pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(values)))

    return step


def _marked_dict(machine: Unpickler, argument: Any) -> None:
    made: dict[Any, Any] = {}
    set_items(made, machine._pop_to_mark())
    machine.stack.append(made)


def _set_item(machine: Unpickler, argument: Any) -> None:
    value = machine._pop()
    key = machine._pop()
    set_items(machine.stack[-1], [key, value])


def _set_marked(machine: Unpickler, argument: Any) -> None:
    items = machine._pop_to_mark()
    set_items(machine.stack[-1], items)


def _get(machine: Unpickler, argument: Any) -> None:
    machine.stack.append(machine.memo[int(argument)])


def _put(machine: Unpickler, argument: Any) -> None:
    machine.memo[int(argument)] = machine.stack[-1]


def _drop(machine: Unpickler, argument: Any) -> None:
    machine.stack.pop()


def _drop_to_mark(machine: Unpickler, argument: Any) -> None:
    machine._pop_to_mark()


def _memoize(machine: Unpickler, argument: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _line_global(machine: Unpickler, argument: Any) -> None:
    module, _, name = argument.partition(" ")
    machine._global(module, name)


_Step = Callable[[Unpickler, Any], None]
_VALUES = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE SHORT_BINUNICODE "
    "BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8"
)
_STEPS: dict[str, _Step] = {
    **dict.fromkeys(_VALUES.split(), _push),
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "MARK": _constant(_MARK),
    "EMPTY_LIST": _fresh(list),
    "EMPTY_DICT": _fresh(dict),
    "EMPTY_SET": _fresh(set),
    "EMPTY_TUPLE": _constant(()),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": lambda machine, argument: machine.stack.append(tuple(machine._pop_to_mark())),
    "LIST": lambda machine, argument: machine.stack.append(machine._pop_to_mark()),
    "FROZENSET": lambda machine, argument: machine.stack.append(
        frozenset(members(machine._pop_to_mark()))
    ),
    "DICT": _marked_dict,
    "APPEND": lambda machine, argument: machine._append([machine._pop()]),
    "APPENDS": lambda machine, argument: machine._append(machine._pop_to_mark()),
    "SETITEM": _set_item,
    "SETITEMS": _set_marked,
    "ADDITEMS": lambda machine, argument: machine._add(machine._pop_to_mark()),
    "POP": _drop,
    "POP_MARK": _drop_to_mark,
    "DUP": lambda machine, argument: machine.stack.append(machine.stack[-1]),
    "MEMOIZE": _memoize,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "GLOBAL": _line_global,
    "STACK_GLOBAL": lambda machine, argument: machine._stack_global(),
    "REDUCE": lambda machine, argument: machine._reduce(),
    "NEWOBJ": lambda machine, argument: machine._new(),
    "BUILD": lambda machine, argument: machine._build(),
    "BINPERSID": lambda machine, argument: machine._persistent(),
}
