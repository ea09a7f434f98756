"""The tools at a cluster: which masters there are, how all their keys are walked through, and what each is asked.

Imports nothing of the tools themselves: for them it is one more `Database`.
"""
