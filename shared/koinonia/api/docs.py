"""The API page and the document it is made from."""

from koinonia.api.endpoint import Endpoint

OPENAPI = Endpoint(
    name="docs.openapi",
    method="GET",
    path="/api/openapi.json",
    owner="gateway",
    summary="This document",
    access="public",
)
PAGE = Endpoint(
    name="docs.page",
    method="GET",
    path="/api/docs",
    owner="gateway",
    summary="The API page",
    access="public",
    produces="text/html",
)

ENDPOINTS = (OPENAPI, PAGE)
