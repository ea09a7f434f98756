"""The tools for tasks that are in Redis already: audit, backfill, doctor, export, persist.

They work on one database with a client of their own. No running sidecar needs this package. May import
`asynq`, `policy` and the rows below.
"""
