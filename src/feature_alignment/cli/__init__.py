"""The command ``falign``: one file per command, listed in ``commands.py``.

The module of a command has two functions: ``parse`` maps its arguments to options, without heavy imports; ``run``
executes the options.
"""
