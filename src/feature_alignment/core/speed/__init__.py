"""Without this folder every result is the same, only slower."""
