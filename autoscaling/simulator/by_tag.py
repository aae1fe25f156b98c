"""Waiting clips sorted by tag, in arrays, so that a look at thousands of them costs little."""

import numpy as np

from autoscaling.simulator.trace import Floats, Ints

_ROOM = 1024


class ClipsByTag:
    """Numbers of clips, lowest tag first; of equal tags the lower number."""

    def __init__(self) -> None:
        self._tags: Floats = np.empty(_ROOM)
        self._numbers: Ints = np.empty(_ROOM, np.int64)
        self._first = self._end = 0

    def __len__(self) -> int:
        return self._end - self._first

    @property
    def numbers(self) -> Ints:
        """All of them, in order; a view that the next change spoils."""
        return self._numbers[self._first : self._end]

    def add(self, tag: float, number: int) -> None:
        """One more clip waits."""
        if self._end == len(self._tags):
            self._make_room()
        at = self._place(tag, number)
        self._tags[at + 1 : self._end + 1] = self._tags[at : self._end]
        self._numbers[at + 1 : self._end + 1] = self._numbers[at : self._end]
        self._tags[at], self._numbers[at] = tag, number
        self._end += 1

    def remove(self, tag: float, number: int) -> None:
        """A clip waits no more; cheap near the head, where all are taken."""
        first, at = self._first, self._place(tag, number)
        self._tags[first + 1 : at + 1] = self._tags[first:at]
        self._numbers[first + 1 : at + 1] = self._numbers[first:at]
        self._first += 1

    def _place(self, tag: float, number: int) -> int:
        tags = self._tags[self._first : self._end]
        low, high = int(tags.searchsorted(tag)), int(tags.searchsorted(tag, "right"))
        return self._first + low + int(self.numbers[low:high].searchsorted(number))

    def _make_room(self) -> None:
        count = len(self)
        tags, numbers = np.empty(2 * count + _ROOM), np.empty(2 * count + _ROOM, np.int64)
        tags[:count], numbers[:count] = self._tags[self._first : self._end], self.numbers
        self._tags, self._numbers, self._first, self._end = tags, numbers, 0, count
