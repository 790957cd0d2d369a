"""Renders a page from a template, as a small web backend does. Standard library only.

Shows short-lived garbage: each answer builds a string of some 100 kB and drops it.
"""

import hashlib
import html
import random
import string

PAGE = string.Template("<!doctype html><title>$title</title><h1>$title</h1><table>$rows</table>")
ROW = string.Template("<tr><td>$name</td><td>$text</td><td>$amount</td></tr>")


def _rows(seed, count):
    draw = random.Random(seed)
    words = ["dormouse", "<b>hazel</b>", "oak & elm", '"nest"', "winter"]
    return [(f"row {i}", " ".join(draw.choices(words, k=6)), draw.randrange(10_000)) for i in range(count)]


ROWS = _rows(1, 2_000)


def lambda_handler(event, context):
    """`{"n": k}`: hash of the page with 500 rows from row k. `{"verify": true}`: hash of the page with all."""
    if event.get("verify"):
        return {"sha256": _sha256(_render("all", ROWS))}
    n = int(event.get("n", 0))
    start = n % (len(ROWS) - 500)
    return {"n": n, "answer": _sha256(_render(f"Page {n}", ROWS[start : start + 500]))}


def _render(title, rows):
    cells = (
        ROW.substitute(name=html.escape(name), text=html.escape(text), amount=amount) for name, text, amount in rows
    )
    return PAGE.substitute(title=html.escape(title), rows="".join(cells))


def _sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()
