"""``penstock COMMAND ...``: finds the command, runs it, and turns every way to end into an exit code.

A command is a module of this folder with ``run(arguments) -> exit code`` and a line in `COMMANDS`. It is imported
when it is run, so that the others cost nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType

from . import exits

COMMANDS = {
    "chat": "ask a model and stream its answer",
    "batch": "take many rows through a model, with a journal that no crash takes",
    "bench": "measure how fast a model streams, and how well that was measured",
    "mock": "start a gateway on this machine that answers like a model",
    "record": "record what a gateway answers to any client, and play it again",
    "demo": "see one answer come through a gateway that fails twice",
}
"""Name -> what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments without the program's name. `None` takes those of the process.

    Returns:
        The exit code, see `penstock.engine.cli.exits`. A reader of stdout that goes away is no failure: 0.
    """
    _hold_closed_streams()
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # here, where a broken pipe can be caught, and not when Python exits
    except BrokenPipeError:
        _detach_stdout()
        return exits.OK
    except OSError as error:
        print(f"penstock: {error.strerror or error}", file=sys.stderr)  # such as: No space left on device
        _detach_stdout()
        return exits.FAILED
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return exits.INTERRUPTED


def _hold_closed_streams() -> None:
    """Where stdin, stdout or stderr was closed for us, take its descriptor, and let it fail: the next file or socket to
    be opened would get it, and be read as input or have results written into it.
    """
    wrong_way = {"stdin": os.O_WRONLY, "stdout": os.O_RDONLY, "stderr": os.O_RDONLY}
    for descriptor, (name, flag) in enumerate(wrong_way.items()):
        if getattr(sys, name) is None:
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, flag)  # gets the lowest number that is free, which is this one
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115 - for good


def _run(arguments: list[str]) -> int:
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return exits.USAGE
    try:
        # What follows the command's name is the command's affair.
        command = parser.parse_args(arguments[:1]).command
        with _interrupts_held():
            module = import_module(f".{command}", __package__)
        code: int = module.run(arguments[1:])
    except SystemExit as ended:  # how argparse ends after --help (0) and after a wrong argument (2)
        return ended.code if isinstance(ended.code, int) else exits.USAGE
    return code


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """SIGINT is raised when what is inside is over; a second one at once. In the midst of being imported orjson takes
    a `KeyboardInterrupt` for what cannot be, and the process dies of SIGSEGV.
    """
    held: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        if held:
            raise KeyboardInterrupt
        held.append(number)

    default = signal.default_int_handler
    is_main_thread = threading.current_thread() is threading.main_thread()  # others have no interrupts
    if not is_main_thread or signal.getsignal(signal.SIGINT) is not default:
        yield
        return
    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, default)
    if held:
        raise KeyboardInterrupt


def _parser() -> ArgumentParser:
    from penstock import __version__

    listed = "\n".join(f"  {name:<6} {purpose}" for name, purpose in COMMANDS.items())
    parser = ArgumentParser(
        prog="penstock",
        usage="penstock COMMAND [ARGUMENTS]",
        description=f"The async streaming engine for LLM gateways.\n\ncommands:\n{listed}",
        epilog="`penstock COMMAND --help` shows the arguments of a command.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"penstock {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=SUPPRESS)
    return parser


def _detach_stdout() -> None:
    """Send what is left in the buffer nowhere: Python writes it when it exits, and would complain once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
