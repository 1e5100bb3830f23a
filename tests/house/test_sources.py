"""How the source looks: sizes, docstrings, words, and a journal whose catalogue is complete both ways."""

from __future__ import annotations

import ast
import configparser
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from sipd.journal import CATALOGUE

ROOT = Path(__file__).resolve().parent.parent.parent
SIPD = sorted((ROOT / "sipd").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEXTS = [path for folder in ("docs", "etc", "changes", "tools", "bench") for path in sorted((ROOT / folder).rglob("*"))
         if path.is_file() and path.suffix in (".md", ".toml", ".py", ".xml", ".cfg", "")]

#: Lines of a file; beyond that it has taken a second job.
LONGEST = 500
#: Words in a class's name that say that it does something without saying what.
EMPTY_WORDS = re.compile(r"Handler|Manager|Engine|Processor")


def tree(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name(path: Path) -> str:
    """A file as people call it."""
    return str(path.relative_to(ROOT))


class SourceTests(SynchronousTestCase):
    """Every source file."""

    def test_sizes(self) -> None:
        """No file is longer than LONGEST lines."""
        long = {name(path): lines for path in (*SIPD, *TESTS)
                if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST}
        self.assertEqual(long, {})

    def test_docstrings(self) -> None:
        """Every module, and every class and function whose name is public, says what it is for."""
        silent = []
        for path in SIPD:
            module = tree(path)
            if module.body and not ast.get_docstring(module):
                silent.append(name(path))
            for owner in (module, *(node for node in module.body if isinstance(node, ast.ClassDef))):
                if isinstance(owner, ast.ClassDef) and owner.name.startswith("_"):
                    continue
                silent += [
                    f"{name(path)}:{node.lineno} {node.name}" for node in owner.body
                    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
                    and not node.name.startswith("_") and not ast.get_docstring(node)
                    and not any("overload" in ast.unparse(mark) for mark in node.decorator_list)
                ]
        self.assertEqual(silent, [])

    def test_tests_say_what_they_show(self) -> None:
        """Every test has a docstring, and none is skipped or left to do."""
        silent = []
        for path in TESTS:
            for node in ast.walk(tree(path)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                    marks = {ast.unparse(mark) for mark in node.decorator_list}
                    if not ast.get_docstring(node) or any("skip" in mark for mark in marks):
                        silent.append(f"{name(path)}:{node.lineno} {node.name}")
                # trial takes `skip = ...` and `todo = ...` on classes and methods.
                if isinstance(node, ast.Assign) and any(
                        getattr(target, "id", getattr(target, "attr", "")) in ("skip", "todo") for target in node.targets):
                    silent.append(f"{name(path)}:{node.lineno} skip or todo")
        self.assertEqual(silent, [])

    def test_class_names(self) -> None:
        """A class is named after the word of the RFC, not after doing something with it."""
        empty = [f"{name(path)}:{node.lineno} {node.name}" for path in SIPD for node in ast.walk(tree(path))
                 if isinstance(node, ast.ClassDef) and EMPTY_WORDS.search(node.name)]
        self.assertEqual(empty, [])

    def test_nothing_left_for_later(self) -> None:
        """No marks of unfinished work stand in the code, and no prints in the server."""
        marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
        found = [name(path) for path in (*SIPD, *TESTS) if marks.search(path.read_text(encoding="utf-8"))]
        self.assertEqual(found, [])

    def test_texts_stand_alone(self) -> None:
        """Nothing points to files outside this tree."""
        outside = re.compile(r"(?<![\w/])/wo" + r"rk/|\.\./sha" + r"red/")
        found = [name(path) for path in (*SIPD, *TESTS, *TEXTS, ROOT / "README.md", ROOT / "Makefile")
                 if outside.search(path.read_text(encoding="utf-8"))]
        self.assertEqual(found, [])

    def test_links(self) -> None:
        """The pages that README and docs point to are there."""
        missing = []
        for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
            for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
                if not (path.parent / target).exists():
                    missing.append(f"{name(path)}: {target}")
        self.assertEqual(missing, [])

    def test_packages(self) -> None:
        """setup.cfg installs every package of sipd and the plugin, which must not become a package of ours."""
        settings = configparser.ConfigParser()
        settings.read(ROOT / "setup.cfg")
        packages = set(settings["options"]["packages"].split())
        folders = {".".join(path.parent.relative_to(ROOT).parts) for path in SIPD}
        self.assertEqual(packages, folders | {"twisted.plugins"})
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])


class CatalogueTests(SynchronousTestCase):
    """The catalogue of records against the code that writes them."""

    def setUp(self) -> None:
        self.written: set[str] = set()
        texts: dict[Path, set[str]] = {}
        for path in SIPD:
            texts.setdefault(path.parent, set()).update(
                node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant) and isinstance(node.value, str))
        for path in SIPD:
            for node in ast.walk(tree(path)):
                if (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "write"
                        and "journal" in ast.unparse(node.func.value)):
                    self.assertTrue(node.args, f"{name(path)}:{node.lineno} has no kind")
                    kind = node.args[0]
                    if isinstance(kind, ast.Constant):
                        self.written.add(str(kind.value))
                        self.check_fields(f"{name(path)}:{node.lineno}", str(kind.value), node)
                    else:
                        # The kind was chosen before: it is one of those this room speaks of.
                        self.written |= texts[path.parent] & set(CATALOGUE)

    def check_fields(self, place: str, kind: str, call: ast.Call) -> None:
        """A record brings what its sentence needs."""
        self.assertIn(kind, CATALOGUE, place)
        fields = {word.arg for word in call.keywords}
        if any(word.arg is None for word in call.keywords):
            return
        needed = set(re.findall(r"{(\w+)", CATALOGUE[kind]))
        self.assertEqual(needed - fields, set(), f"{place} writes {kind} without")

    def test_complete(self) -> None:
        """Each kind that is written is in the catalogue, with the fields of its sentence, and each kind there is
        written somewhere."""
        self.assertEqual(sorted(set(CATALOGUE) - self.written), [])
