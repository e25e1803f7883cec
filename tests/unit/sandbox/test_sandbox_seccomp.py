"""The system call filter, run by a small interpreter of its instructions: every path gives a definite answer."""

import errno

import pytest

from builder.sandbox.seccomp import ARCHITECTURES, DENIED, Instruction, compiled, program

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CLONE = {"x86_64": 56, "aarch64": 220}
SOCKET = {"x86_64": (41, 53), "aarch64": (198, 199)}


def run(steps: list[Instruction], audit: int, number: int, arguments: tuple[int, ...] = (0,) * 6) -> int:
    """What the kernel would answer. Only the instructions that the filter uses are known."""
    data = {0: number, 4: audit} | {16 + 8 * index: value & 0xFFFFFFFF for index, value in enumerate(arguments)}
    accumulator = at = 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        if code == 0x20:
            accumulator = data[operand]
        elif code == 0x06:
            return operand
        else:
            holds = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}
            at += if_true if holds[code] else if_false


@pytest.fixture(params=ARCHITECTURES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def answer(machine: str, number: int, *arguments: int) -> int:
    return run(program(machine), AUDIT[machine], number, (*arguments, *(0,) * (6 - len(arguments))))


def test_everything_on_the_list_is_refused(machine: str) -> None:
    column = ARCHITECTURES.index(machine)
    for name, numbers in DENIED.items():
        number = numbers[column]
        if number is not None:
            assert answer(machine, number) == ERRNO | errno.EPERM, name


def test_no_number_is_listed_twice(machine: str) -> None:
    column = ARCHITECTURES.index(machine)
    numbers = [entry[column] for entry in DENIED.values() if entry[column] is not None]
    assert len(numbers) == len(set(numbers))


def test_what_is_not_listed_passes(machine: str) -> None:
    column = ARCHITECTURES.index(machine)
    special = {CLONE[machine], 435, *SOCKET[machine], *(entry[column] for entry in DENIED.values())}
    for number in range(470):
        if number not in special:
            assert answer(machine, number) == ALLOW, number


def test_another_architecture_is_killed(machine: str) -> None:
    assert run(program(machine), 0x40000003, 1) == KILL


def test_x32_calls_are_refused() -> None:
    for number in (0x40000000, 0x40000000 | 101, 0x7FFFFFFF, 0xFFFFFFFF):
        assert answer("x86_64", number) == ERRNO | errno.EPERM


@pytest.mark.parametrize("flag", [1 << bit for bit in (17, 25, 26, 27, 28, 29, 30)])
def test_no_namespace_can_be_made(machine: str, flag: int) -> None:
    assert answer(machine, CLONE[machine], flag | 17) == ERRNO | errno.EPERM


def test_threads_and_children_can_be_made(machine: str) -> None:
    assert answer(machine, CLONE[machine], 17) == ALLOW
    assert answer(machine, CLONE[machine], 0x003D0F00) == ALLOW
    assert answer(machine, 435) == ERRNO | errno.ENOSYS


@pytest.mark.parametrize("index", [0, 1])
def test_only_sockets_of_the_box_can_be_made(machine: str, index: int) -> None:
    number = SOCKET[machine][index]
    for family in range(50):
        allowed = family in (1, 2, 10, 16)
        assert answer(machine, number, family, 1, 0) == (ALLOW if allowed else ERRNO | errno.EAFNOSUPPORT), family
    assert answer(machine, number, 16, 3, 15) == ERRNO | errno.EAFNOSUPPORT


def test_jumps_stay_inside(machine: str) -> None:
    steps = program(machine)
    for at, (code, if_true, if_false, _) in enumerate(steps):
        if code not in (0x20, 0x06):
            assert at + 1 + max(if_true, if_false) < len(steps)
    assert len(compiled(machine)) == 8 * len(steps)


def test_an_unknown_architecture_has_no_filter() -> None:
    with pytest.raises(KeyError):
        program("riscv64")
