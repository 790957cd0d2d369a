"""The calls that Terraform's AWS provider makes for `aws_lambda_function`, `_alias`, `_function_url` and `_permission`, in
its order and with its expectations: create, plan, update, plan, destroy. For where Terraform is not installed: it comes
from its own registry only."""

import json

from common import ROLE, answering, ask, client, create, refused, same

NAME = "made-by-terraform"
NO_SUCH = "ResourceNotFoundException"
ENUMS = {"State": "Active", "LastUpdateStatus": "Successful"}


def wait(field):
    """Until the function is what it is to be; the provider gives up at any other end."""
    same(client.get_function(FunctionName=NAME)["Configuration"][field], ENUMS[field])


def versions(size):
    """All of them, in pages of this size."""
    pages = client.get_paginator("list_versions_by_function").paginate(FunctionName=NAME,
                                                                       PaginationConfig={"PageSize": size})
    return [version for page in pages for version in page["Versions"]]


def read_function():
    """What the provider keeps as the state of a function, by the names that people write."""
    found = client.get_function(FunctionName=NAME)
    said = found["Configuration"]
    latest = versions(10_000)[-1]
    same(client.get_function_code_signing_config(FunctionName=NAME)["CodeSigningConfigArn"], "")
    same(found["Code"].get("ImageUri"), None)
    return {
        "architectures": said["Architectures"],
        "code_sha256": said["CodeSha256"],
        "dead_letter_config": said.get("DeadLetterConfig", {}).get("TargetArn"),
        "description": said.get("Description", ""),
        "environment": said.get("Environment", {}).get("Variables"),
        "ephemeral_storage": said["EphemeralStorage"]["Size"],
        "file_system_config": said.get("FileSystemConfigs", []),
        "handler": said["Handler"],
        "image_config": said.get("ImageConfigResponse"),
        "kms_key_arn": said.get("KMSKeyArn", ""),
        "layers": said.get("Layers", []),
        "logging_config": {key: said.get("LoggingConfig", {}).get(key) for key in ("LogFormat", "LogGroup")},
        "memory_size": said["MemorySize"],
        "package_type": said["PackageType"],
        "qualified_arn": latest["FunctionArn"],
        "reserved_concurrent_executions": found.get("Concurrency", {}).get("ReservedConcurrentExecutions", -1),
        "role": said["Role"],
        "runtime": said["Runtime"],
        "snap_start": said.get("SnapStart", {}).get("ApplyOn", "None"),
        "tags": found.get("Tags", {}),
        "timeout": said["Timeout"],
        "tracing_config": said["TracingConfig"]["Mode"],
        "version": latest["Version"],
        "vpc_config": said.get("VpcConfig", {}).get("VpcId", ""),
    }


def statement(name, sid):
    """One permission, as it is looked for; `None`: there is none, or no policy at all."""
    try:
        policy = client.get_policy(FunctionName=name)["Policy"]
    except client.exceptions.ResourceNotFoundException:
        return None
    found = [one for one in json.loads(policy)["Statement"] if one["Sid"] == sid]
    return found[0] if found else None


# The provider looks first: a plan of something new finds nothing.
refused(NO_SUCH, 404, client.get_function, FunctionName=NAME)

# Create.
made = create(client, NAME, answering("one"), Description="by terraform", MemorySize=256, Timeout=10, Publish=True,
              PackageType="Zip", Architectures=["x86_64"], EphemeralStorage={"Size": 1024}, Tags={"team": "a"},
              Environment={"Variables": {"KEY": "1"}}, TracingConfig={"Mode": "PassThrough"},
              LoggingConfig={"LogFormat": "Text", "LogGroup": f"/aws/lambda/{NAME}"})
same(made["Version"], "1")
wait("State")
client.put_function_concurrency(FunctionName=NAME, ReservedConcurrentExecutions=7)
arn = f"arn:aws:lambda:us-east-1:000000000000:function:{NAME}"
wanted = {
    "architectures": ["x86_64"], "code_sha256": made["CodeSha256"], "dead_letter_config": None,
    "description": "by terraform", "environment": {"KEY": "1"}, "ephemeral_storage": 1024, "file_system_config": [],
    "handler": "lambda_function.lambda_handler", "image_config": None, "kms_key_arn": "", "layers": [],
    "logging_config": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{NAME}"}, "memory_size": 256,
    "package_type": "Zip", "qualified_arn": f"{arn}:1", "reserved_concurrent_executions": 7, "role": ROLE,
    "runtime": "python3.12", "snap_start": "None", "tags": {"team": "a"}, "timeout": 10,
    "tracing_config": "PassThrough", "version": "1", "vpc_config": "",
}
same(read_function(), wanted)

client.create_alias(FunctionName=NAME, Name="live", FunctionVersion="1", Description="")
URL = "FunctionURLAllowPublicAccess"
url = client.create_function_url_config(FunctionName=NAME, Qualifier="live", AuthType="NONE",
                                        Cors={"AllowCredentials": False, "AllowOrigins": ["*"], "MaxAge": 60})
client.add_permission(FunctionName=NAME, Qualifier="live", StatementId=URL, Action="lambda:InvokeFunctionUrl",
                      Principal="*", FunctionUrlAuthType="NONE")
client.add_permission(FunctionName=NAME, StatementId="from-events", Action="lambda:InvokeFunction",
                      Principal="events.amazonaws.com", SourceArn="arn:aws:events:us-east-1:123456789012:rule/r")


def plan():
    """Reads all there is, which must be what is wanted: else the plan is not empty."""
    same(read_function(), wanted)
    found = client.get_alias(FunctionName=NAME, Name="live")
    same([found.get(key) for key in ("AliasArn", "FunctionVersion", "Description")],
         [f"{arn}:live", wanted["version"], ""])
    same(found.get("RoutingConfig", {}).get("AdditionalVersionWeights", {}), {})
    found = client.get_function_url_config(FunctionName=NAME, Qualifier="live")
    same([found[key] for key in ("AuthType", "FunctionArn", "FunctionUrl", "InvokeMode")],
         ["NONE", f"{arn}:live", url["FunctionUrl"], "BUFFERED"])
    same(found["Cors"], {"AllowCredentials": False, "AllowOrigins": ["*"], "MaxAge": 60})
    found = statement(NAME, "from-events")
    same([found[key] for key in ("Action", "Principal", "Resource")],
         ["lambda:InvokeFunction", {"Service": "events.amazonaws.com"}, arn])
    same(found["Condition"], {"ArnLike": {"AWS:SourceArn": "arn:aws:events:us-east-1:123456789012:rule/r"}})
    # Resources and data sources of their own.
    same(client.list_tags(Resource=arn)["Tags"], wanted["tags"])
    same(client.get_function_concurrency(FunctionName=NAME)["ReservedConcurrentExecutions"],
         wanted["reserved_concurrent_executions"])
    same(client.get_runtime_management_config(FunctionName=NAME)["UpdateRuntimeOn"], "Auto")
    same(client.get_function_recursion_config(FunctionName=NAME)["RecursiveLoop"], "Terminate")


plan()
same(statement(NAME, "none"), None)

# Update: tags, then configuration, then code, then concurrency, then a version; each is waited for.
client.untag_resource(Resource=arn, TagKeys=["team"])
client.tag_resource(Resource=arn, Tags={"cost": "1"})
client.update_function_configuration(FunctionName=NAME, Description="", Environment={"Variables": {}}, MemorySize=128,
                                     VpcConfig={"SubnetIds": [], "SecurityGroupIds": [], "Ipv6AllowedForDualStack": False},
                                     DeadLetterConfig={"TargetArn": ""}, Layers=[], ImageConfig={}, FileSystemConfigs=[])
wait("LastUpdateStatus")
changed = client.update_function_code(FunctionName=NAME, ZipFile=answering("two"), Architectures=["x86_64"])
wait("LastUpdateStatus")
client.delete_function_concurrency(FunctionName=NAME)
same(client.publish_version(FunctionName=NAME)["Version"], "2")
client.get_waiter("function_updated_v2").wait(FunctionName=NAME, Qualifier="2")
client.update_alias(FunctionName=NAME, Name="live", FunctionVersion="2", Description="", RoutingConfig={})
wanted.update(tags={"cost": "1"}, description="", environment=None, memory_size=128, version="2",
              qualified_arn=f"{arn}:2", code_sha256=changed["CodeSha256"], reserved_concurrent_executions=-1)
same(client.get_function_concurrency(FunctionName=NAME).get("ReservedConcurrentExecutions"), None)
same(read_function(), wanted)
same([version["Version"] for version in versions(1)], ["$LATEST", "1", "2"])
same(ask(client, NAME, Qualifier="live")["says"], "two")
same(client.get_alias(FunctionName=NAME, Name="live")["FunctionVersion"], "2")

# Destroy, in the order of the dependencies, looking whether each is gone.
client.remove_permission(FunctionName=NAME, StatementId="from-events")
same(statement(NAME, "from-events"), None)
client.remove_permission(FunctionName=NAME, Qualifier="live", StatementId=URL)
client.delete_function_url_config(FunctionName=NAME, Qualifier="live")
refused(NO_SUCH, 404, client.get_function_url_config, FunctionName=NAME, Qualifier="live")
client.delete_alias(FunctionName=NAME, Name="live")
refused(NO_SUCH, 404, client.get_alias, FunctionName=NAME, Name="live")
client.delete_function(FunctionName=NAME)
for gone in (client.get_function, client.delete_function, client.get_policy, client.list_versions_by_function):
    refused(NO_SUCH, 404, gone, FunctionName=NAME)
