"""The event contract as files: a JSON Schema and an example per event type, and the AsyncAPI page.

Source: JSON Schema 2020-12; AsyncAPI 3.0.0.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec

from koinonia.bus.topology import EXCHANGE, QUEUES
from koinonia.contracts.samples import sample
from koinonia.events import ALL, CONTENT_TYPE, Envelope, Event, encode, schema_name
from koinonia.ids import id_time

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def event_files() -> dict[str, Any]:
    """What belongs under ``proto-schemas``: path → JSON document."""
    documents: dict[str, Any] = {"asyncapi.json": asyncapi()}
    for event_type in ALL:
        base = f"events/{event_type.TYPE}.v{event_type.VERSION}"
        documents[f"{base}.schema.json"] = event_schema(event_type)
        documents[f"{base}.example.json"] = event_example(event_type)
    return documents


def event_schema(event_type: type[Event]) -> dict[str, Any]:
    """The JSON Schema of a whole event of this type, envelope included."""
    (data,), definitions = msgspec.json.schema_components([event_type], ref_template="#/$defs/{name}")
    name = data["$ref"].rpartition("/")[2]
    return {
        "$schema": _DIALECT,
        "$id": schema_name(event_type),
        "title": event_type.TYPE,
        "description": definitions[name].get("description", ""),
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "format": "uuid"},
            "source": {"type": "string", "pattern": "^/koinonia/[a-z-]+$"},
            "type": {"const": event_type.TYPE},
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "dataschema": {"const": schema_name(event_type)},
            "churchid": {"type": "string", "format": "uuid"},
            "correlationid": {"type": "string"},
            "causationid": {"type": "string"},
            "traceparent": {"type": "string"},
            "data": data,
        },
        "required": ["specversion", "id", "source", "type", "time", "datacontenttype", "dataschema", "data"],
        "$defs": definitions,
    }


def event_example(event_type: type[Event]) -> Any:
    """An example event of this type."""
    data = sample(event_type)
    event_id = sample(_ExampleIds).event_id
    envelope = Envelope[Event](
        id=event_id,
        time=id_time(event_id),
        data=data,
        church_id=sample(_ExampleIds).church_id,
        correlation_id="req-7f3a",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        service="messaging" if event_type.TYPE.startswith("audit.") else "",
    )
    return msgspec.json.decode(encode(envelope))


def asyncapi() -> dict[str, Any]:
    """The page for integrators: the exchange, each event and the queues that take it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Koinonia events",
            "version": "1.0.0",
            "description": "CloudEvents 1.0 in structured JSON on a durable topic exchange; routing key = type.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {
            name: _channel(list(versions)) for name, versions in groupby(ALL, key=lambda event_type: event_type.TYPE)
        },
        "operations": {
            f"receive.{queue}.{event_type.TYPE}": {
                "action": "receive",
                "summary": f"The queue {queue}",
                "channel": {"$ref": f"#/channels/{event_type.TYPE}"},
            }
            for queue, event_types in QUEUES.items()
            for event_type in event_types
        },
    }


def _channel(versions: Sequence[type[Event]]) -> dict[str, Any]:
    """The channel of a type, of which more than one version may be published."""
    first = versions[0]
    return {
        "address": first.TYPE,
        "description": (first.__doc__ or "").strip(),
        "messages": {
            each.TYPE if each is first else f"{each.TYPE}.v{each.VERSION}": {
                "name": each.TYPE,
                "contentType": CONTENT_TYPE,
                "payload": {"$ref": f"./events/{each.TYPE}.v{each.VERSION}.schema.json"},
                "examples": [{"payload": event_example(each)}],
            }
            for each in versions
        },
        "bindings": {
            "amqp": {"is": "routingKey", "exchange": {"name": EXCHANGE, "type": "topic", "durable": True, "vhost": "/"}}
        },
    }


class _ExampleIds(msgspec.Struct):
    event_id: UUID
    church_id: UUID
