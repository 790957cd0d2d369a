"""Sixty-four clients at once: each gets its own answers, as many as are reserved get in, and no deploy costs anybody an
answer. `argv[2]`: a program in Rust that is a function, which starts fast enough for so many."""

import pathlib
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError

from common import ask, client, connect, create, native, package, same

CLIENTS = 64
RESERVED = 4
DEPLOYS = 12
clients = [connect(sys.argv[1]) for _ in range(CLIENTS)]


def crowd(act):
    """Every client does it, all at the same time; what came of each."""
    start = threading.Barrier(CLIENTS)

    def one(number):
        start.wait()
        return act(clients[number], number)

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(one, range(CLIENTS)))


# A function of a folder has two sandboxes, and others wait.
answers = crowd(lambda client, number: [ask(client, "folder", {"n": [number, n]}) for n in range(4)])
same(answers, [[{"n": [number, n]} for n in range(4)] for number in range(CLIENTS)])

# A deployed one has as many as there are callers. Each answer is its caller's own, small or large.
create(client, "f", native(sys.argv[2], "0"), Runtime="provided.al2023", Handler="bootstrap", Timeout=60)
payloads = [{"n": number, "text": f"{number:02}" * (number * 1000)} for number in range(CLIENTS)]
same(crowd(lambda client, number: [ask(client, "f", payloads[number]) for _ in range(4)]), [[p] * 4 for p in payloads])
counted = client.get_account_settings()["AccountLimit"]
same(counted["ConcurrentExecutions"], 1000)

# Exactly as many as are reserved are let in, as long as none of them ends; the others are told so at once.
DOOR = pathlib.Path(tempfile.mkdtemp(dir=".")).resolve() / "door"
HOLDS = ("import os, time\n"
         "def lambda_handler(event, context):\n"
         "    while not os.path.exists(event['door']): time.sleep(0.01)\n"
         "    return event['n']\n")
throttled = threading.Semaphore(0)


def knock(client, number):
    try:
        return ask(client, "holds", {"door": str(DOOR), "n": number})
    except ClientError as error:
        throttled.release()
        return error.response


def open_the_door():
    for _ in range(CLIENTS - RESERVED):
        assert throttled.acquire(timeout=50), "fewer were throttled"
    DOOR.touch()


create(client, "holds", package(HOLDS), Timeout=60)
client.put_function_concurrency(FunctionName="holds", ReservedConcurrentExecutions=RESERVED)
opener = threading.Thread(target=open_the_door)
opener.start()
found = crowd(knock)
opener.join()
same(len([number for number, said in enumerate(found) if said == number]), RESERVED)
refusals = [said for said in found if isinstance(said, dict)]
same(len(refusals), CLIENTS - RESERVED)
for said in refusals:
    same((said["ResponseMetadata"]["HTTPStatusCode"], said["Error"]["Code"], said["Error"]["Message"]),
         (429, "TooManyRequestsException", "Rate Exceeded."))
    same(said["Reason"], "ReservedFunctionConcurrentInvocationLimitExceeded")
same(ask(client, "holds", {"door": str(DOOR), "n": 7}), 7)

# While all call, code is replaced. Every call is answered, by what was deployed when it began, or later.
deployed = 0
packages = [native(sys.argv[2], str(number)) for number in range(DEPLOYS + 1)]


def call_while_deploying(client, _):
    answered = 0
    while deployed < DEPLOYS:
        at_least = deployed
        says = int(ask(client, "f", "read"))
        assert at_least <= says <= DEPLOYS, (at_least, says)
        answered += 1
        time.sleep(0.3)  # Or this one process would do nothing but call.
    return answered


def deploy(client):
    global deployed
    for number in range(1, DEPLOYS + 1):
        client.update_function_code(FunctionName="f", ZipFile=packages[number], Publish=number % 2 == 0)
        same(int(ask(client, "f", "read")), number)
        deployed = number


deployer = threading.Thread(target=deploy, args=[client])
deployer.start()
answered = crowd(call_while_deploying)
deployer.join()
same(deployed, DEPLOYS)
assert min(answered) > 0, answered
