"""The admin server: health, metrics, what the sidecar says about itself, and what an operator may tell it.

Reads the sidecar it is given, and is imported only where it is asked for.
"""
