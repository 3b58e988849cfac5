"""The shadow worker: asks a challenger what users asked the champion, and compares the answers.

One process runs beside each edge, and nothing that users see depends on it. HAProxy hands over
copies of requests and answers (`shadow.lua`). For each the worker appends a line to the pairs' log,
and the agent counts them.
"""
