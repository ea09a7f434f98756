"""py-asynq, which only enqueues: `py_asynq_client.py HOST:PORT QUEUE TYPE PAYLOAD MAX_RETRY`.

Run by the Python of py-asynq's own environment.
"""

import json
import sys

import py_asynq.client
import py_asynq.task
import redis

address, queue, kind, payload, max_retry = sys.argv[1:]
host, _, port = address.rpartition(":")
option = py_asynq.task.Option()
option.queue = queue
option.retry = int(max_retry)
task = py_asynq.task.Task(kind, json.loads(payload))
py_asynq.client.Client(redis.Redis(host=host, port=int(port))).enqueue(task, option)
