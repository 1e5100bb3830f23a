"""The optional compiled build: `SIPD_COMPILE=1 pip install .` compiles with mypyc what every message passes.

Without SIPD_COMPILE nothing happens here: the package is pure Python, and that is the reference. Compiled are the same
sources, and they are installed beside what was made of them. It needs a C compiler and Python's headers.

What a compiled module may not do, and no module named here does: define a zope Interface, or decorate a class with
`implementer` (`classImplements` after the class is the same); be subclassed, or have its functions replaced, by modules
that are not compiled; ask again for what mypy believes to know (`warn_unreachable` finds those places), or reuse the
name of a caught exception around its `except` clause. What it does for speed: names of the module that functions read
are `Final`, which makes them C variables, and tuples that are kept are typed `tuple[X, ...]`, which leaves them whole.
"""

from __future__ import annotations

import configparser
import os
import sys
from pathlib import Path
from typing import Any

from setuptools import setup

ROOT = Path(__file__).resolve().parent

#: The modules that are compiled; `__init__.py` files are not.
COMPILED = (
    "answer.py", "binding.py", "flow.py", "inventory.py", "journal.py", "reactor.py", "wheel.py", "message/*.py",
    "transaction/*.py", "proxy/*.py", "core/*.py", "calls/*.py", "registrar/*.py", "location/table.py",
    "location/service.py", "auth/authenticator.py", "auth/credentials.py", "auth/digest.py", "auth/keyring.py",
    "auth/nonce.py", "transport/listener.py", "peers/policy.py", "transport/udp.py", "transport/via_rules.py",
)

#: Fewer instructions and cache lines than mypyc's own -O3: nobody outside replaces our functions, so that the compiler
#: may put them into one another, and the interpreter's are called without a stub in between (docs/performance.md). No
#: stack protector, which Debian's flags ask for: the arrays in the C that mypyc writes have fixed sizes, and are filled
#: argument by argument, never from what a message says. A function begins on a line of the cache, and what is in it is
#: not moved apart for loops that are run once.
FLAGS = ["-fvisibility=hidden", "-fno-semantic-interposition", "-fno-plt", "-fno-stack-protector",
         "-falign-functions=64", "-fno-align-jumps", "-fno-align-loops", "-fno-align-labels"]


def modules() -> list[str]:
    """The files that are compiled, as paths from the root of the source tree."""
    return [str(path.relative_to(ROOT)) for pattern in COMPILED for path in sorted((ROOT / "sipd").glob(pattern))
            if path.name != "__init__.py"]


def requirements() -> list[str]:
    """What the compiler needs: mypy, its knowledge of zope, and whatever the sources import, to read its types."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"] + settings["options.extras_require"]["dev"]
    others = ("hypothesis", "pyperf", "ruff", "sipvicious")
    return [line for line in lines.split("\n") if line and not line.startswith(others)]


def extensions() -> list[Any]:
    """The extension modules; compiling takes about a minute."""
    from mypyc.build import mypycify
    os.chdir(ROOT)
    made = mypycify(["--config-file", "setup.cfg", *modules()], opt_level="2", debug_level="0", group_name="sipd")
    for extension in made:
        # all of them have one list: adding to that would say it to the compiler as often as there are modules
        extension.extra_compile_args = [*extension.extra_compile_args, *FLAGS]
    return made


if not os.environ.get("SIPD_COMPILE"):
    setup()
elif "egg_info" in sys.argv or "dist_info" in sys.argv:
    # asked what is needed to build, or for the metadata: the compiler may not be here yet
    setup(setup_requires=requirements())
else:
    setup(ext_modules=extensions())
