"""One client's commands, each led to the node of a cluster that serves its key, and their replies, in order.

To the client many nodes are one Redis. Bytes in, bytes out: who knows the nodes, and who has the connections, is behind
two protocols (`nodes`). Imports `session` and the rows below.
"""
