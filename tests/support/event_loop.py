"""An event loop that outlives one test."""

import asyncio
from typing import Any


class Loop:
    """Runs coroutines one at a time; tasks they leave behind go on with the next."""

    def __init__(self) -> None:
        self._runner = asyncio.new_event_loop()

    def __call__(self, work: Any) -> Any:
        return self._runner.run_until_complete(asyncio.wait_for(work, 120.0))

    def close(self) -> None:
        self._runner.close()
