"""One row of sync_audit: who did what. Append only, and never a secret."""

from __future__ import annotations

from typing import Any

from api.db import Session
from schema.values import json_text

_APPEND = "INSERT INTO sync_audit (actor, action, details) VALUES (%s, %s, %s)"


async def append(session: Session, actor: str, action: str, **details: Any) -> None:
    """Append a row in the caller's transaction."""
    await session.execute(_APPEND, (actor[:255], action, json_text(details)))
