"""The command ``falign``: one file a command, listed in ``commands.py``.

A command's module has ``parse``, which takes its arguments and imports nothing heavy, and ``run``, which takes what
``parse`` returned.
"""
