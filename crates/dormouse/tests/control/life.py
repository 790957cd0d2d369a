"""A function is made, called, changed and removed."""

from common import ROLE, answering, ask, client, create, package, refused, same

made = create(client, "f", answering("one"), Timeout=5, MemorySize=256, Description="first",
              Environment={"Variables": {"KEY": "value"}}, Tags={"team": "a"})
same(made["ResponseMetadata"]["HTTPStatusCode"], 201)
same((made["Version"], made["State"], made["LastUpdateStatus"]), ("$LATEST", "Active", "Successful"))
same(made["FunctionArn"], "arn:aws:lambda:us-east-1:000000000000:function:f")
client.get_waiter("function_active").wait(FunctionName="f")
client.get_waiter("function_active_v2").wait(FunctionName="f")
said = ask(client, "f", {"n": 1})
same((said["says"], said["event"], said["key"], said["version"]), ("one", {"n": 1}, "value", "$LATEST"))
same(said["memory"], "256")

shown = client.get_function(FunctionName=made["FunctionArn"])
same(shown["Tags"], {"team": "a"})
shown = shown["Configuration"]
same((shown["Timeout"], shown["MemorySize"], type(shown["Timeout"])), (5, 256, int))
same((shown["CodeSha256"], shown["CodeSize"]), (made["CodeSha256"], made["CodeSize"]))
same(client.get_function_configuration(FunctionName="f", Qualifier="$LATEST")["RevisionId"], made["RevisionId"])

# The code changes; who has seen the last change may, others not.
changed = client.update_function_code(FunctionName="f", ZipFile=answering("two"), RevisionId=made["RevisionId"])
client.get_waiter("function_updated_v2").wait(FunctionName="f")
same(ask(client, "f")["says"], "two")
assert changed["CodeSha256"] != made["CodeSha256"] and changed["RevisionId"] != made["RevisionId"]
refused("PreconditionFailedException", 412, client.update_function_code, FunctionName="f",
        ZipFile=answering("three"), RevisionId=made["RevisionId"])
tried = client.update_function_code(FunctionName="f", ZipFile=answering("three"), DryRun=True)
assert tried["CodeSha256"] not in (changed["CodeSha256"], made["CodeSha256"])
same(ask(client, "f")["says"], "two")

changed = client.update_function_configuration(FunctionName="f", Timeout=7, Environment={"Variables": {"KEY": "new"}})
same((changed["Timeout"], changed["MemorySize"], changed["Description"]), (7, 256, "first"))
same(ask(client, "f")["key"], "new")
refused("PreconditionFailedException", 412, client.update_function_configuration, FunctionName="f", Timeout=8,
        RevisionId=made["RevisionId"])

# An interpreter that comes with a package would be asked what it is outside of any sandbox.
refused("InvalidParameterValueException", 400, client.update_function_code, FunctionName="f",
        ZipFile=package("", **{"function.toml": "python = 'mine'"}))
same(ask(client, "f")["says"], "two")

# Lists come in pages.
for name in ("g", "a-long-name", "f-2"):
    create(client, name, answering(name))
names = [f["FunctionName"] for f in client.list_functions()["Functions"]]
same(names, ["a-long-name", "f", "f-2", "folder", "g"])
paged = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
same([[f["FunctionName"] for f in page["Functions"]] for page in paged], [names[:2], names[2:4], names[4:]])

# What cannot be, with Lambda's words.
refused("ResourceConflictException", 409, create, client=client, name="f", code=answering("x"))
refused("ResourceConflictException", 409, create, client=client, name="folder", code=answering("x"))
refused("ResourceConflictException", 409, client.update_function_configuration, FunctionName="folder", Timeout=1)
refused("ResourceConflictException", 409, client.delete_function, FunctionName="folder")
refused("ResourceNotFoundException", 404, client.get_function, FunctionName="none")
refused("ResourceNotFoundException", 404, client.get_function, FunctionName="f", Qualifier="7")
refused("ResourceNotFoundException", 404, client.delete_function, FunctionName="none")
refused("ResourceNotFoundException", 404, client.update_function_code, FunctionName="none", ZipFile=b"x")
refused("InvalidParameterValueException", 400, create, client=client, name="x", code=b"no zip")
refused("InvalidParameterValueException", 400, create, client=client, name="x", code=answering("x"), Runtime="cobol")
refused("InvalidParameterValueException", 400, create, client=client, name="x",
        code=package("", **{"../../outside": "x"}))
refused("InvalidParameterValueException", 400, create, client=client, name="x", code=package("", **{"function.toml": "?"}))
refused("ValidationException", 400, create, client=client, name="x", code=answering("x"), MemorySize=127 + 10241)
refused("ValidationException", 400, create, client=client, name="x", code=answering("x"), Role="me:" + ROLE)
refused("InvalidParameterValueException", 400, create, client=client, name="x", code=answering("x"),
        Environment={"Variables": {"AWS_LAMBDA_RUNTIME_API": "x"}})
refused("InvalidParameterValueException", 400, client.delete_function, FunctionName="f", Qualifier="$LATEST")
refused("ResourceNotFoundException", 404, client.get_function, FunctionName="x")

arn = made["FunctionArn"]
client.tag_resource(Resource=arn, Tags={"team": "b", "cost": "1"})
client.untag_resource(Resource=arn, TagKeys=["cost", "none"])
same(client.list_tags(Resource=arn)["Tags"], {"team": "b"})

client.delete_function(FunctionName="g")
refused("ResourceNotFoundException", 404, client.invoke, FunctionName="g")
usage = client.get_account_settings()
same(usage["AccountUsage"]["FunctionCount"], 4)
