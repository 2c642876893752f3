"""Decompression of request bodies, within the memory budget.

Large bodies are decompressed in a thread, outside the event loop.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from gateway.body.json import BODY, BodyError
from service import compression
from service.compression import INPUT_CHUNK, OUTPUT_CHUNK, DecompressedTooLargeError
from service.memory_budget import Reservation

_THREAD = ThreadPoolExecutor(1, "decompression")
"""The one thread for large bodies, so that decompression bombs use at most one core."""


async def decompress(coding: bytes, body: bytes, limit: int, reservation: Reservation) -> bytes:
    """Decompress a body with a coding from CODINGS, and add the result's size to `reservation`.

    Small results are decompressed at once; others wait for the budget's lock and run in the thread.

    Raises:
        DecompressedTooLargeError: the result exceeds `limit` bytes.
        BodyError: the stream is damaged, truncated, or has too many members.
        BudgetExceededError: the memory budget does not allow `limit` bytes.
    """
    if len(body) <= INPUT_CHUNK:
        try:
            decompressed = decompress_sync(coding, body, min(limit, OUTPUT_CHUNK))
        except DecompressedTooLargeError:
            if limit <= OUTPUT_CHUNK:
                raise
        else:
            reservation.add(len(decompressed))
            return decompressed
    async with reservation.budget.lock:
        reservation.add(limit)
        loop = asyncio.get_running_loop()
        decompressed = await loop.run_in_executor(_THREAD, decompress_sync, coding, body, limit)
        reservation.add(len(decompressed) - limit)
        return decompressed


def decompress_sync(coding: bytes, body: bytes, limit: int) -> bytes:
    """Decompress a body in the calling thread; see `decompress`."""
    try:
        return compression.decompress(coding, body, limit)
    except compression.CompressionError as error:
        raise BodyError(BODY, str(error)) from error
