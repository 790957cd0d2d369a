import os


def handler(event, context):
    return f"{os.environ['GREETING']} {event['name']}, from {context.memory_limit_in_mb} MB"
