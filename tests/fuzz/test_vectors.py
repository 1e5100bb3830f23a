"""All that a fuzzer ever found, and what it found useful, replayed: what broke a rule once does not break it again."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.fuzz.targets import TARGETS

FINDINGS = Path(__file__).resolve().parents[1] / "vectors" / "fuzz"
CORPUS = Path(__file__).resolve().parent / "corpus"


class Vectors(TestCase):
    """Each file of tests/vectors/fuzz and tests/fuzz/corpus, in the target its folder is named after."""

    def _replay(self, directory: Path) -> int:
        problems = []
        paths = sorted(path for path in directory.glob("*/*") if path.is_file())
        for path in paths:
            try:
                TARGETS[path.parent.name](path.read_bytes())
            except Exception as error:
                problems.append(f"{path.relative_to(directory)}: {type(error).__name__}: {error}")
        self.assertEqual(problems, [], "\n".join(problems))
        return len(paths)

    def test_findings(self) -> None:
        """Every finding."""
        self.assertGreater(self._replay(FINDINGS), 2)

    def test_corpus(self) -> None:
        """Every input of the corpus, of which each target has some; all together stay small."""
        self.assertGreater(self._replay(CORPUS), 100)
        self.assertEqual({path.name for path in CORPUS.iterdir()}, set(TARGETS))
        self.assertLess(sum(path.stat().st_size for path in CORPUS.glob("*/*")), 700_000)
