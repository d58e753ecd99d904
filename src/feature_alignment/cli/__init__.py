"""The command ``falign``."""
