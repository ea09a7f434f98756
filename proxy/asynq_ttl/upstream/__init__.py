"""Where Redis is, and the sidecar's own connections to it: the endpoint, its Sentinels, the control connection.

May import `rewriting`, for the wrappers that it loads, and the rows below.
"""
