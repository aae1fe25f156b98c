"""What guarding costs: decoding an image apart from the gateway, and hashing weights.

python -m benchmarks.defence
"""

import asyncio
import hashlib
import statistics
import time
from collections.abc import Awaitable, Callable

from deployments.images.decode import decode_image
from deployments.images.decoder import ImageDecoder
from tests.support.server import picture

_ROUNDS = 20
_SIZES = ((96, 56), (832, 480), (4000, 3000))
_MAX_PIXELS = 40_000_000
_HASHED_BYTES = 1 << 29


async def median_ms(work: Callable[[], Awaitable[object]]) -> float:
    """Median time of one call, in milliseconds."""
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        await work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


async def decoding(decoder: ImageDecoder, width: int, height: int) -> str:
    """One image, apart and here."""
    file = picture(width, height)

    async def here() -> object:
        return decode_image(file, max_pixels=_MAX_PIXELS)

    apart_ms = await median_ms(lambda: decoder.decode(file))
    return f"PNG {width}x{height}: {apart_ms:.1f} ms apart, {await median_ms(here):.1f} ms here"


def hashing() -> str:
    """SHA-256 by one thread."""
    chunk, digest = bytes(1 << 23), hashlib.sha256()
    start = time.perf_counter()
    for _ in range(_HASHED_BYTES // len(chunk)):
        digest.update(chunk)
    rate = _HASHED_BYTES / (time.perf_counter() - start) / 2**30
    return f"SHA-256: {rate:.2f} GiB/s by one thread"


async def main() -> None:
    """Prints a line for each case."""
    decoder = ImageDecoder(max_pixels=_MAX_PIXELS)
    try:
        await decoder.decode(picture())  # the first one starts a process
        for size in _SIZES:
            print(await decoding(decoder, *size))
    finally:
        decoder.close()
    print(hashing())


if __name__ == "__main__":
    asyncio.run(main())
