"""Keeps an event loop with a timer in a thread of its own.

Shows a process that sits in `epoll_wait` and wakes itself every 20 ms: after a sleep the loop goes on.
"""

import asyncio
import hashlib
import json
import threading

STATE = {f"key-{i}": [i, str(i) * 5] for i in range(20_000)}
LOOP = asyncio.new_event_loop()
TICKS = 0


async def _ticker():
    global TICKS
    while True:
        await asyncio.sleep(0.02)
        TICKS += 1
        [str(i) for i in range(200)]


def _run():
    asyncio.set_event_loop(LOOP)
    LOOP.create_task(_ticker())
    LOOP.run_forever()


threading.Thread(target=_run, daemon=True).start()


async def _answer(n):
    parts = await asyncio.gather(*(_part(n, i) for i in range(10)))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


async def _part(n, index):
    await asyncio.sleep(0.001)
    return STATE[f"key-{(n * 31 + index) % len(STATE)}"]


def lambda_handler(event, context):
    """`{"n": k}`: ten tasks gather an answer. `{"verify": true}`: hash of the state. `{"ticks": true}`: how often
    the timer has fired."""
    if event.get("verify"):
        return {"sha256": hashlib.sha256(json.dumps(STATE, sort_keys=True).encode()).hexdigest()}
    if event.get("ticks"):
        return {"ticks": [TICKS]}
    n = int(event.get("n", 0))
    return {"n": n, "answer": asyncio.run_coroutine_threadsafe(_answer(n), LOOP).result(timeout=5)}
