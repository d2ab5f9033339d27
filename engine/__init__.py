"""The engine: from call events to alerts, one step per package (see ARCHITECTURE.md).

Importing this package costs nothing: numba is imported by `engine.kernel` alone, so that `callgauge --help`
answers at once.
"""
