"""The mathematics: alignment, inversion, local training. Imports torch and nothing heavier."""
