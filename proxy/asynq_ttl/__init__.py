"""asynq-ttl: a sidecar between Asynq clients and Redis that gives tasks that have ended a TTL, by policy.

The ten nouns, and which way each flows:

* **command**: what a client sends. It flows upstream: client, `relay`, `session`, Redis. One comes in, one goes out.
* **reply**: what Redis answers. It flows downstream as it came; `session` only counts it.
* **script**: a Lua text of a client's, named by its SHA. `asynq` reads what it does, `rewriting` remembers it.
* **wrapper**: our Lua around a script. `rewriting` makes it, `upstream` loads it into Redis before its first use.
* **task**: what Asynq keeps in Redis: a hash, and an ID in an index. `asynq` knows how both are written.
* **policy**: rules that say how long a task that has ended is kept. `policy_file` reads it, `policy` applies it.
* **decision**: what the policy says about one command. `rewriting` makes it, `session` carries it out.
* **outcome**: a decision and the reply to it. `session` tells it through `events`, `telemetry` takes it.
* **page**: some entries of an index. `sweep` asks for them one after the other and removes what is due.
* **figure**: a number about the sidecar. `telemetry` counts it, `sidecar` serves it.

Downstream is the client's side, upstream is Redis's. A package imports only from rows below its own::

    cli
    sidecar, demo
    relay, sweep, telemetry
    session, upstream
    rewriting
    events, existing_keys, policy_file
    asynq, policy
    wire, net, lua, times
"""
