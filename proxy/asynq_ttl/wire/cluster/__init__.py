"""What Redis Cluster says of its nodes: the slot of a key, views of the cluster, and replies that name nodes.

Bytes and text in, bytes and plain data out. Imports nothing of ours.
"""
