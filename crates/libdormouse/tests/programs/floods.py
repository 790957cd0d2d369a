"""Tells an agent that hears nothing of more than there is room for: it would hang if anything waited."""

import dormouse

memory = bytes(1 << 20)
for _ in range(5000):
    dormouse.merge(memory)
stats = dormouse.stats()
print(stats.messages, stats.lost)
