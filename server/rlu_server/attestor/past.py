"""The instances before this one: their final heads, and proofs from their logs, so that who followed one can follow on.

Reading a finished log takes a while, so it is done when it is first asked for, by a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rlu_attestation import cose
from rlu_attestation.encoding import unb64u
from rlu_server.attestor import records
from rlu_server.attestor.errors import AttestorError
from rlu_server.attestor.journal import Retired, history
from rlu_server.attestor.tiles import TiledTree

T = TypeVar("T")


class Past:
    """What is left of earlier instances below the log's directory. Its methods block, but for `forget`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._wanted = self._read = 0
        """How often it was forgotten, now and when it was last read."""
        self._instances: list[Retired] | None = None
        self._tree: tuple[tuple[str, int], TiledTree] | None = None

    def instances(self) -> list[Retired]:
        """All of them.

        Raises:
            LogCorrupt: a file among the logs is none.
        """
        with self._lock:
            wanted = self._wanted
            if self._instances is None or self._read != wanted:
                self._tree = None
                self._instances = history(self._directory)
                self._read = wanted
            return self._instances

    def forget(self) -> None:
        """Read again: one of them still grows, or has ended since."""
        self._wanted += 1  # without the lock: the event loop must not wait for a thread that reads

    def inclusion(self, issuer: str, leaf_index: int) -> bytes:
        """COSE Receipt of inclusion under an instance's final head.

        Raises:
            AttestorError: `not_in_log`.
            LogCorrupt: the log does not lead to its final head.
        """
        found = self.instance(issuer)
        if not 0 <= leaf_index < found.size:
            raise AttestorError("not_in_log", "that instance's log was shorter")
        head = cose.parse_head(found.head)
        with self._lock:
            path = self._tree_of(found).inclusion_path(leaf_index, found.size)
        return cose.assemble_inclusion(head.protected, head.signature, found.size, leaf_index, path)

    def path(self, issuer: str, old_size: int, new_size: int) -> list[bytes]:
        """The hashes that lead from one size of an instance's tree to another.

        Raises:
            AttestorError: `not_in_log`.
            LogCorrupt: the log is damaged.
        """
        found = self.instance(issuer)
        if not 0 < old_size <= new_size <= found.size:
            raise AttestorError("not_in_log", "that instance's log was shorter")
        with self._lock:
            return self._tree_of(found).consistency_path(old_size, new_size)

    def consistency(self, issuer: str, old_size: int, upto: bytes | None = None) -> bytes:
        """COSE Receipt of consistency between an earlier size and an instance's final head.

        Args:
            upto: an earlier signed head to lead to instead.

        Raises:
            AttestorError: `not_in_log`.
            LogCorrupt: the log does not lead to its final head.
        """
        found = self.instance(issuer)
        head = cose.parse_head(found.head if upto is None else upto)
        if not 0 < old_size <= head.tree_size <= found.size:
            raise AttestorError("not_in_log", "that instance's log was shorter")
        with self._lock:
            path = self._tree_of(found).consistency_path(old_size, head.tree_size)
        return cose.assemble_consistency(head.protected, head.signature, old_size, head.tree_size, path)

    def read(self, issuer: str, show: Callable[[TiledTree, int], T]) -> T:
        """What `show` makes of an instance's tree and size.

        Raises:
            AttestorError: `not_in_log`.
            LogCorrupt: the log is damaged.
        """
        found = self.instance(issuer)
        with self._lock:
            return show(self._tree_of(found), found.size)

    def instance(self, issuer: str) -> Retired:
        """One of them.

        Raises:
            AttestorError: `not_in_log`.
            LogCorrupt: as `instances`.
        """
        found = next((i for i in self.instances() if i.issuer == issuer), None)
        if found is None:
            raise AttestorError("not_in_log", "no such instance came before this one")
        return found

    def _tree_of(self, instance: Retired) -> TiledTree:
        wanted = (instance.issuer, instance.size)
        if self._tree is None or self._tree[0] != wanted:
            tree = TiledTree(instance.tiles, instance.sealed)
            for record in instance.rest:
                tree.put(unb64u(record.leaf), records.meta(record))
            self._tree = (wanted, tree)
        return self._tree[1]
