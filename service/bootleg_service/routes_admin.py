"""What an operator may ask over HTTP. Part of the application only where there are admin keys, which it asks for."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from bootleg_service.answers import JSON, to_json
from bootleg_service.state import models_of

router = APIRouter(prefix="/admin", include_in_schema=False)


@router.post("/reload")
async def reload(request: Request) -> Response:
    """Open the bundles again and serve those that have changed; 409 when one of them cannot be served."""
    done = await models_of(request).reload()
    failed = any(outcome.outcome == "failed" for outcome in done)
    body = to_json({"models": [asdict(outcome) for outcome in done]})
    return Response(body, status_code=409 if failed else 200, media_type=JSON)
