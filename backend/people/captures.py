"""The store of captures as each person sees it: their own in lists, others' only by a link, computed once for all.

Owns who gets which capture; the files are the store's (`backend.kept.store`), the rules of links and histories those of
`backend.people.histories`. One person alone sees the whole store.

Equal requests share one capture, so that twenty people who ask a sample question cost one run. Who asks what somebody
else asked before sees it "from the store", and nothing of who that was.
"""

from __future__ import annotations

from pathlib import Path

from backend.kept.captures import Capture
from backend.kept.store import CaptureStore, StoreFailed, check_id
from backend.people.histories import Histories


class PeoplesCaptures(CaptureStore):
    """A store of which everybody sees a part. What takes an id takes a link as well."""

    def __init__(self, folder: Path, size_limit_bytes: int, people: Path):
        """`people` is the folder of histories."""
        super().__init__(folder, size_limit_bytes)
        self.histories = Histories(people)

    # --- for the engine ---

    def computed(self, capture_id: str) -> Capture | None:
        """What an equal request made before, now in the history of who asks too; None where it must be made."""
        if self.histories.is_foreign(capture_id):
            return None
        found = super().get(capture_id)
        if found is not None:
            self.histories.note(capture_id)
        return found

    def put(self, capture: Capture) -> None:
        """Keep what was made here, in the history of who asks."""
        super().put(capture)
        self.histories.note_made(capture.id)
        self.histories.note(capture.id)

    def take_in(self, capture: Capture) -> None:
        """Keep what somebody brought in; one of that id that is here stays as it is. Raises as `put`."""
        if not super().__contains__(capture.id):
            try:
                self.histories.note_foreign(capture.id)
            except OSError as error:
                raise StoreFailed("Expected room to keep this capture, got none; free some space.") from error
            super().put(capture)
        self.histories.note(capture.id)

    # --- for the page ---

    def link(self, capture_id: str) -> str:
        return self.histories.link(capture_id)

    def id_of(self, link: str) -> str | None:
        check_id(link.partition(".")[0] if isinstance(link, str) else link)
        return self.histories.opened(link)

    def get(self, capture_id: str) -> Capture | None:
        own = self.id_of(capture_id)
        return None if own is None else super().get(own)

    def __contains__(self, capture_id: str) -> bool:
        own = self.id_of(capture_id)
        return own is not None and super().__contains__(own)

    def raw(self, capture_id: str) -> bytes | None:
        own = self.id_of(capture_id)
        return None if own is None else super().raw(own)

    def ids(self) -> list[str]:
        return self.histories.ids(super().ids())

    def delete(self, capture_id: str) -> None:
        """Take it out of the history of who asks, and off the disk where it is in nobody else's."""
        check_id(capture_id)
        if not self.histories.has(capture_id):
            return
        self.histories.forget(capture_id)
        if not self.histories.others_have(capture_id):
            super().delete(capture_id)
