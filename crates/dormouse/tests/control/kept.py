"""Everything that was acknowledged is there: functions, versions and answers. `argv[2]` has what was, as JSON."""

import json
import sys

from common import ask, client, same

acknowledged = json.loads(sys.argv[2])
for name, numbers in acknowledged.items():
    versions = client.list_versions_by_function(FunctionName=name)["Versions"]
    assert len(versions) - 1 >= len(numbers), (name, numbers, versions)
    for version, number in enumerate(numbers, 1):
        same(ask(client, name, Qualifier=str(version))["says"], str(number))
    latest = int(ask(client, name)["says"])
    assert latest >= numbers[-1], (name, latest, numbers)  # One more may be there that nobody was told of.
