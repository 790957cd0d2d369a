"""Makes and changes functions until the server dies; each line of output is one change that was acknowledged."""

import sys

import common
from botocore.exceptions import BotoCoreError

number = 0
try:
    while True:
        name = f"f{number % 3}"
        if number < 3:
            common.create(common.client, name, common.answering(str(number)), Publish=True)
        else:
            common.client.update_function_code(FunctionName=name, ZipFile=common.answering(str(number)), Publish=True)
        print(name, number, flush=True)
        number += 1
except BotoCoreError:
    sys.exit(0)
