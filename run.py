"""From a bare Python with pip to a demo, or to the tests passing, in one command.

    python3 run.py demo       install Penstock and show a call that goes through two faults
    python3 run.py test       install what the tests need, and run them
    python3 run.py check      lint, types and import direction
    python3 run.py install    everything a developer needs
    python3 run.py fuzz       search for inputs that the parsers cannot bear, for ten minutes or FUZZ_SECONDS

Everything is installed into `.venv` beside this file, and installed again when `pyproject.toml` changes. Further
arguments go to what is run: `python3 run.py test -x tests/middleware`.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")

GROUPS = {"demo": [], "test": ["test"], "check": ["dev"], "install": ["dev"], "fuzz": ["test", "fuzz"]}
"""The dependency groups that each command needs beside Penstock itself."""

COMMANDS = {
    "demo": [["penstock", "demo"]],
    "test": [["pytest", "--numprocesses=auto", "--maxprocesses=8", "--dist=worksteal"]],
    "check": [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], ["pyright"], ["lint-imports", "--no-logo"]],
    "install": [],
    "fuzz": [["python", "-m", "tests.fuzz"]],
}


def main(arguments: "list[str]") -> int:
    if sys.version_info < (3, 10):  # noqa: UP036  # this file is what people run with any Python
        return fail("Penstock needs Python 3.10 or later; this is " + sys.version.split()[0])
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    name, *rest = arguments
    try:
        install(GROUPS[name])
    except subprocess.CalledProcessError as error:
        return fail(f"this command failed, see above: {' '.join(map(str, error.cmd))}")
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV), "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    failed = 0
    for tool, *options in COMMANDS[name]:
        command = [str(BIN / tool), *options, *rest]
        failed = subprocess.run(command, cwd=ROOT, env=environment).returncode or failed
    return failed


def install(groups: "list[str]") -> None:
    """Install Penstock in editable form with these dependency groups, unless that has been done."""
    done = VENV / "-".join(["installed", *groups])
    wanted = (ROOT / "pyproject.toml").read_text("utf-8")
    if done.exists() and done.read_text("utf-8") == wanted:
        return
    python = str(BIN / "python")
    if not shutil.which(python):
        make_venv()
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    print("installing into", VENV, flush=True)
    subprocess.run([*pip, "--upgrade", "pip"], check=True)  # --group came with pip 25.1
    options = [option for group in groups for option in ("--group", group)]
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore"}  # setuptools warns of every editable installation
    subprocess.run([*pip, "--editable", ".", *options], check=True, cwd=ROOT, env=quiet)
    done.write_text(wanted, "utf-8")


def make_venv() -> None:
    if importlib.util.find_spec("ensurepip") is not None:
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        return
    # Debian and Ubuntu keep ensurepip, without which venv has no pip, in a package of its own. virtualenv brings pip.
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", folder, "virtualenv"], check=True)
        environment = {**os.environ, "PYTHONPATH": folder}
        subprocess.run([sys.executable, "-m", "virtualenv", "--quiet", str(VENV)], check=True, env=environment)


def fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
