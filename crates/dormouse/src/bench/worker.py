"""A function for the bench: seeded data, some calls to warm up, then one answer for each connection.

usage: worker.py NAME SOCKET WARM_UP_CALLS
A request is a line with a number; the answer is a line that depends on the number and the data alone.
"""

import hashlib
import os
import random
import socket
import sys


def hello():
    import json

    people = {f"person-{i}": {"age": i % 90, "tags": [str(i), str(i * 7)]} for i in range(20_000)}
    names = list(people)

    def answer(n):
        chosen = {name: people[name] for name in names[n % 100 : n % 100 + 200]}
        return hashlib.sha256(json.dumps(chosen).encode()).hexdigest()

    return answer


def numpy():
    import numpy as np

    numbers = np.random.default_rng(7)
    left, right = numbers.random((400, 400)), numbers.random((400, 400))
    return lambda n: f"{(left @ right).trace() + n:.6f}"


def pandas():
    import numpy as np
    import pandas as pd

    numbers, rows = np.random.default_rng(7), 100_000
    sales = pd.DataFrame(
        {
            "shop": numbers.integers(0, 100, rows),
            "price": numbers.random(rows),
            "item": [f"item-{i % 1000}" for i in range(rows)],
        }
    )

    def answer(n):
        means = sales.groupby("shop")["price"].mean()
        items = sales[sales["shop"] == n % 100]["item"].value_counts()
        return f"{means.sum():.6f} {items.sum()}"

    return answer


def sklearn():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    chance = random.Random(7)
    words = [f"word{i}" for i in range(3000)]
    texts = [" ".join(chance.choices(words, k=30)) for _ in range(1500)]
    terms = TfidfVectorizer()
    model = LogisticRegression().fit(terms.fit_transform(texts), [i % 2 for i in range(1500)])
    return lambda n: f"{model.predict_proba(terms.transform([texts[n % 1500]]))[0, 0]:.6f}"


def network(name):
    import networks

    return networks.function(name, os.path.join(os.path.dirname(sys.path[0]), "weights"))


def synthetic():
    """Memory of which 85 % of the pages, scattered, are the same in every process, and the rest in none."""
    import numpy as np

    page, pages = 4096, 100 * 256
    numbers = np.random.default_rng(7)
    memory = np.frombuffer(bytearray(numbers.bytes(page * pages)), np.uint8).reshape(pages, page)
    own = np.sort(numbers.permutation(pages)[: pages * 15 // 100])
    for number in own:
        memory[number] = np.frombuffer(os.urandom(page), np.uint8)
    common = np.setdiff1d(np.arange(pages), own)

    def digest(chosen):
        told = hashlib.sha256()
        for number in chosen:
            told.update(memory[number])
        return told.hexdigest()

    own_digest = digest(own)

    def answer(n):
        # A function writes as well as it reads: one page of a hundred, and nothing has changed when it is done.
        for _ in range(2):
            memory[n % 100 :: 100, 0] ^= 255
        return f"{n} {digest(common) if digest(own) == own_digest else 'its own pages are damaged'}"

    return answer


def main():
    name, path, warm_up_calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if name in ("alexnet", "resnet50"):
        answer = network(name)
    else:
        functions = {"hello": hello, "numpy": numpy, "pandas": pandas, "sklearn": sklearn, "synthetic": synthetic}
        answer = functions[name]()
    for n in range(warm_up_calls):
        answer(n)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    while True:
        connection, _ = listener.accept()
        with connection:
            request = connection.makefile("rb").readline()
            if request:
                connection.sendall((answer(int(request)) + "\n").encode())


main()
