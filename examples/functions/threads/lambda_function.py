"""Keeps four threads that tick and allocate while nobody asks anything.

Shows that a sleep stops all threads at once and wakes each where it was: in a timed wait on a queue.
"""

import hashlib
import queue
import threading

THREADS = 4
STATE = [bytes((i * 7 + j) % 256 for j in range(65_536)) for i in range(64)]
TICKS = [0] * THREADS
QUESTIONS = [queue.Queue() for _ in range(THREADS)]
ANSWERS = queue.Queue()


def _tick(index):
    while True:
        try:
            n = QUESTIONS[index].get(timeout=0.02 * (index + 1))
        except queue.Empty:
            TICKS[index] += 1
            scratch = bytearray(50_000 * (index + 1))
            scratch[::4096] = b"x" * len(scratch[::4096])
        else:
            ANSWERS.put((index, hashlib.sha256(STATE[(n + index) % len(STATE)]).hexdigest()))


for number in range(THREADS):
    threading.Thread(target=_tick, args=(number,), daemon=True).start()


def lambda_handler(event, context):
    """`{"n": k}`: each thread hashes a part. `{"verify": true}`: hash of all. `{"ticks": true}`: how often each
    thread has ticked; never fewer than before."""
    if event.get("verify"):
        return {"sha256": hashlib.sha256(b"".join(STATE)).hexdigest()}
    if event.get("ticks"):
        return {"ticks": list(TICKS)}
    n = int(event.get("n", 0))
    for questions in QUESTIONS:
        questions.put(n)
    answers = sorted(ANSWERS.get(timeout=5) for _ in range(THREADS))
    return {"n": n, "answer": hashlib.sha256(repr(answers).encode()).hexdigest()}
