"""An order book: tens of megabytes of Python objects that point at each other.

Shows the hardest ordinary case: small objects all over the heap, full of pointers and reference counts, so that
nearly every page has a few bytes of its own.
"""

import hashlib
import random

ORDERS = 60_000
CUSTOMERS = 2_000
SYMBOLS = 200


class Customer:
    """Somebody who places orders."""

    def __init__(self, number, name):
        self.number = number
        self.name = name
        self.orders = []


def _book(seed):
    draw = random.Random(seed)
    customers = [Customer(i, f"customer {draw.randrange(10**9):09d}") for i in range(CUSTOMERS)]
    by_symbol = {f"SYM{i:03d}": [] for i in range(SYMBOLS)}
    for number in range(ORDERS):
        customer = draw.choice(customers)
        order = {
            "number": number,
            "symbol": f"SYM{draw.randrange(SYMBOLS):03d}",
            "side": draw.choice(("buy", "sell")),
            "price": round(draw.uniform(1, 1000), 2),
            "fills": [draw.randrange(1, 500) for _ in range(draw.randrange(4))],
            "note": f"order {number} of {customer.name}",
            "customer": customer,
        }
        customer.orders.append(order)
        by_symbol[order["symbol"]].append(order)
    return customers, by_symbol


CUSTOMERS_BY_NUMBER, ORDERS_BY_SYMBOL = _book(1)


def lambda_handler(event, context):
    """`{"n": k}`: the best prices of symbol k, and what its largest customer holds. `{"verify": true}`: hash of
    the whole book, walked along its pointers."""
    if event.get("verify"):
        return {"sha256": _sha256_of_all()}
    n = int(event.get("n", 0))
    orders = ORDERS_BY_SYMBOL[f"SYM{n % SYMBOLS:03d}"]
    bids = [order["price"] for order in orders if order["side"] == "buy"]
    asks = [order["price"] for order in orders if order["side"] == "sell"]
    largest = max((order["customer"] for order in orders), key=lambda customer: (len(customer.orders), customer.number))
    filled = sum(sum(order["fills"]) for order in largest.orders)
    return {"n": n, "bid": max(bids), "ask": min(asks), "customer": largest.name, "filled": filled}


def _sha256_of_all():
    state = hashlib.sha256()
    for customer in CUSTOMERS_BY_NUMBER:
        for order in customer.orders:
            fields = [str(order[key]) for key in ("number", "symbol", "side", "price", "fills", "note")]
            state.update(f"{customer.number} {' '.join(fields)} {order['customer'].name}\n".encode())
    for symbol in sorted(ORDERS_BY_SYMBOL):
        state.update(f"{symbol} {len(ORDERS_BY_SYMBOL[symbol])}\n".encode())
    return state.hexdigest()
