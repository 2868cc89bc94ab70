"""A local page over runs and models: look at images, attack them, repair, compare.

Starlette and uvicorn come with the extra ``studio``; only ``app``, ``guard`` and ``server`` import
them.
"""

from __future__ import annotations
