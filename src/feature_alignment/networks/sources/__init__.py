"""Where networks come from: one file a kind, each with ``build(request)``; a new one needs a prefix in ``SOURCES``."""
