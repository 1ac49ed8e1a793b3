"""The programs that are run in the sandbox, as files for a work."""

from __future__ import annotations

import marshal
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import MAGIC_NUMBER

from trainer.sandbox.interpreter import python_command

_PACKAGE = "trainer.rewards.python.inside"
_START = (
    "import sys; sys.path.insert(0, '.'); from importlib import import_module; "
    "import_module(sys.argv[1]).main()"
)


@dataclass(frozen=True)
class Script:
    """A module of the folder `inside` with a `main`, and the modules that it needs."""

    name: str
    needs: tuple[str, ...]

    @property
    def command(self) -> tuple[str, ...]:
        """How it is started where its files are."""
        return (*python_command(), "-c", _START, f"{_PACKAGE}.{self.name}")

    @property
    def files(self) -> dict[str, bytes]:
        """The modules, in packages of their names that hold nothing else."""
        place = _PACKAGE.replace(".", "/")
        parents = [place.split("/")[:end] for end in range(1, place.count("/") + 2)]
        packages = {f"{'/'.join(parent)}/__init__.py": b"" for parent in parents}
        return packages | {f"{place}/{n}.pyc": _compiled(n) for n in (self.name, *self.needs)}


INSPECTION = Script("inspection", ("tricks", "usage"))
QUALITY = Script("quality", ())
CHECKING = Script("checking", ("answering", "units", "wire"))


@cache
def _compiled(name: str) -> bytes:
    """A module as Python loads it without its source: each start would compile it again."""
    text = (files(_PACKAGE) / f"{name}.py").read_bytes()
    code = compile(text, f"{name}.py", "exec", dont_inherit=True)
    return MAGIC_NUMBER + bytes(12) + marshal.dumps(code)
