"""The state directory: made for its owner, files written whole, one holder of the lock."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

from twisted.trial.unittest import TestCase

from sipd import state


class DirectoryTests(TestCase):
    """The directory and its small files."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        state.ensure(self.directory)

    def test_made_for_its_owner(self) -> None:
        """A missing directory is made with its parents, closed to others; one that is there keeps its mode."""
        path = os.path.join(self.directory, "a", "b")
        state.ensure(path)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o700)
        os.chmod(path, 0o750)
        state.ensure(path)
        self.assertEqual((stat.S_IMODE(os.stat(path).st_mode), os.listdir(path)), (0o750, []))

    def test_unusable(self) -> None:
        """A directory that cannot be made is told with the option to change."""
        with open(os.path.join(self.directory, "file"), "w"):
            pass
        error = self.assertRaises(state.StateError, state.ensure, os.path.join(self.directory, "file", "x"))
        self.assertIn("--state-dir DIR", str(error))

    def test_files(self) -> None:
        """What is written is read again; a missing file is empty; the mode is as asked; nothing else is left."""
        self.assertEqual(state.read(self.directory, "realm"), "")
        state.write(self.directory, "realm", b" example.com \nmore\n", 0o644)
        self.assertEqual(state.read(self.directory, "realm"), "example.com")
        state.write(self.directory, "realm", b"two\n")
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.directory, "realm")).st_mode), 0o600)
        self.assertEqual(os.listdir(self.directory), ["realm"])

    def test_broken_files(self) -> None:
        """A file that cannot be read or written raises a StateError that names it."""
        os.mkdir(os.path.join(self.directory, "realm"))
        for error in (self.assertRaises(state.StateError, state.read, self.directory, "realm"),
                      self.assertRaises(state.StateError, state.write, self.directory, "realm", b"")):
            self.assertIn(os.path.join(self.directory, "realm"), str(error))
        state.write(self.directory, "other", b"\xff")
        self.assertRaises(state.StateError, state.read, self.directory, "other")


class LockTests(TestCase):
    """One process at a time."""

    def test_one_holder(self) -> None:
        """A second holder is refused and sees the first one's process id; released, the lock is free again."""
        directory = self.mktemp()
        state.ensure(directory)
        first, second = state.StateLock(directory), state.StateLock(directory)
        self.assertTrue(first.acquire())
        first.sign()
        self.assertFalse(second.acquire())
        self.assertEqual(second.holder(), str(os.getpid()))
        first.release()
        first.release()
        self.assertTrue(second.acquire())
        second.release()

    def test_dies_with_its_process(self) -> None:
        """A process that is killed holds no lock."""
        directory = self.mktemp()
        state.ensure(directory)
        program = ("import sys, os; from sipd.state import StateLock; lock = StateLock(sys.argv[1]); "
                   "print(lock.acquire(), flush=True); sys.stdin.read()")
        with subprocess.Popen([sys.executable, "-c", program, os.path.abspath(directory)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as child:
            assert child.stdout is not None
            self.assertEqual(child.stdout.readline(), b"True\n")
            lock = state.StateLock(directory)
            self.assertFalse(lock.acquire())
            child.kill()
        self.assertTrue(lock.acquire())
        lock.release()

    def test_no_directory(self) -> None:
        """Without the directory there is no lock but an error that says so."""
        self.assertRaises(state.StateError, state.StateLock(self.mktemp()).acquire)
