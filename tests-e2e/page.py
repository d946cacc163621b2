"""The routes as the served API page has them, so that a test of all routes includes a new one by itself."""

import re
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

METHODS = ("get", "post", "patch", "put", "delete")


@dataclass(frozen=True)
class Route:
    """One operation of the page."""

    method: str
    path: str
    operation: dict[str, Any]
    schemas: dict[str, Any]
    responses: dict[str, Any] = field(default_factory=dict)  # those that several routes share, by name

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_public(self) -> bool:
        return not self.operation["security"]

    @property
    def ids(self) -> list[str]:
        """The parameters in its path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def query(self) -> list[str]:
        """The parameters in its query."""
        return [each["name"] for each in self.operation.get("parameters", []) if each["in"] == "query"]

    @property
    def is_idempotent(self) -> bool:
        return any(each["name"] == "Idempotency-Key" for each in self.operation.get("parameters", []))

    @property
    def is_stream(self) -> bool:
        return "text/event-stream" in self.operation["responses"].get("200", {}).get("content", {})

    @property
    def content_types(self) -> list[str]:
        """What its body may be; empty when it takes none."""
        return list(self.operation.get("requestBody", {}).get("content", {}))

    @property
    def example(self) -> dict[str, Any] | None:
        """A good JSON body; None where there is none."""
        content = self.operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        example: dict[str, Any] | None = content.get("example")
        return example

    @property
    def fields(self) -> list[str]:
        """The fields of its JSON body."""
        content = self.operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        return list(self.schemas.get(name, {}).get("properties", {}))

    @property
    def statuses(self) -> set[int]:
        """What it may answer."""
        return {int(status) for status in self.operation["responses"]}

    def url(self, **ids: object) -> str:
        """The path with its ids filled in."""
        return self.path.format_map({name: str(value) for name, value in ids.items()})


async def served_page(url: str) -> bytes:
    """The page, as anybody gets it."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/openapi.json") as answer:
        assert answer.status == 200
        return await answer.read()


async def all_routes(url: str) -> list[Route]:
    """Every route that the page has."""
    page = msgspec.json.decode(await served_page(url))
    schemas, responses = page["components"]["schemas"], page["components"]["responses"]
    return [
        Route(method.upper(), path, item[method], schemas, responses)
        for path, item in page["paths"].items()
        for method in METHODS
        if method in item
    ]
