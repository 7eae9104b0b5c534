"""Other systems: each package talks to one of them and needs an extra of this distribution."""

from __future__ import annotations

__all__: list[str] = []
