"""Memory that was freed goes back to the system, though neighbours of it are in use."""

import platform
import subprocess
import sys

import pytest

# In a process of its own, whose heap has no holes yet. Each sixteenth of 128 MiB stays in use.
_FRAGMENTED = """
import asyncio, psutil, time
from deployments.trimming import Trimming

MIB = 2**20

def resident_mib():
    return psutil.Process().memory_info().rss / MIB

async def trim_until(most_mib):
    trimming = Trimming(interval_s=0.01)
    trimming.loop.start()
    deadline_s = time.monotonic() + 30
    while resident_mib() > most_mib:
        assert time.monotonic() < deadline_s, "the holes stay with the process"
        await asyncio.sleep(0.01)
    await trimming.loop.stop()

before = resident_mib()
blocks = [b"%d" % number * 1600 for number in range(10_000, 26_384)]
kept = blocks[15::16]
del blocks
assert resident_mib() > before + 100, "there is nothing to give back"
asyncio.run(trim_until(before + 40))
assert len(kept) == 1024
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can")
def test_holes_are_given_back() -> None:
    run = subprocess.run([sys.executable, "-c", _FRAGMENTED], stderr=subprocess.PIPE, text=True)
    assert run.returncode == 0, run.stderr
