"""The envelope of every event: CloudEvents 1.0 in structured JSON, and the registry of what may stand in it.

Source: CloudEvents 1.0.2, "JSON Event Format" 3.1 and "Distributed Tracing" extension.
"""

from datetime import datetime
from typing import Any, ClassVar, Generic, Literal, TypeVar
from uuid import UUID

import msgspec

from koinonia.errors import Outspoken

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
_SOURCE = "/koinonia/"


class Event(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A fact about something that has happened. Fields are state only; a new one comes last and has a default."""

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1


E_co = TypeVar("E_co", bound=Event, covariant=True)


class Envelope(msgspec.Struct, Generic[E_co], frozen=True, kw_only=True):
    """An event with its id and where it came from."""

    id: UUID
    time: datetime
    data: E_co
    church_id: UUID | None = None  # None: not one church's
    correlation_id: str | None = None  # of the request that began it all
    causation_id: str | None = None  # the event that led to this one
    traceparent: str | None = None
    service: str = ""  # the publisher; empty: the one its type names

    @property
    def type(self) -> str:
        return self.data.TYPE

    @property
    def source(self) -> str:
        """``/koinonia/<service>``."""
        return f"{_SOURCE}{self.service or publisher_of(type(self.data))}"


class Unreadable(Outspoken):
    """The body is no event of this platform: it goes to the dead letters at once."""


class UnknownEvent(Unreadable):
    """An event of a type or version that this process does not know: most likely a newer process does."""


class _Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The JSON of an event; the attributes' names are CloudEvents' own."""

    id: UUID
    source: str
    specversion: Literal["1.0"]
    type: str
    time: datetime
    datacontenttype: str
    dataschema: str
    data: msgspec.Raw
    churchid: UUID | None = None
    correlationid: str | None = None
    causationid: str | None = None
    traceparent: str | None = None


REGISTRY: dict[tuple[str, int], type[Event]] = {}

_encoder = msgspec.json.Encoder()
_wire_decoder = msgspec.json.Decoder(_Wire)
_decoders: dict[str, msgspec.json.Decoder[Event]] = {}


def register(*types: type[Event]) -> None:
    """Make event types known to ``decode``; the package ``koinonia.events`` does so for all of the contract."""
    for event_type in types:
        REGISTRY[event_type.TYPE, event_type.VERSION] = event_type
        _decoders[schema_name(event_type)] = msgspec.json.Decoder(event_type)


def schema_name(event_type: type[Event]) -> str:
    """The ``dataschema`` of a type: a name, not an address; the schema lies in ``proto-schemas/events``."""
    return f"urn:koinonia:event:{event_type.TYPE}:{event_type.VERSION}"


def publisher_of(event_type: type[Event]) -> str:
    """The service that publishes a type; audit events come from any, and name theirs."""
    prefix = event_type.TYPE.partition(".")[0]
    return "gateway" if prefix == "carrier" else prefix


def encode(envelope: Envelope[Event]) -> bytes:
    """The event's JSON, UTF-8."""
    event_type = type(envelope.data)
    wire = _Wire(
        id=envelope.id,
        source=envelope.source,
        specversion="1.0",
        type=event_type.TYPE,
        time=envelope.time,
        datacontenttype="application/json",
        dataschema=schema_name(event_type),
        data=msgspec.Raw(_encoder.encode(envelope.data)),
        churchid=envelope.church_id,
        correlationid=envelope.correlation_id,
        causationid=envelope.causation_id,
        traceparent=envelope.traceparent,
    )
    return _encoder.encode(wire)


def decode(body: bytes) -> Envelope[Any]:
    """Read an event.

    Raises:
        UnknownEvent: an event, but of an unknown type or version.
        Unreadable: not JSON, not an event, or with data that breaks its schema.
    """
    try:
        wire = _wire_decoder.decode(body)
        decoder = _decoders.get(wire.dataschema)
        if not wire.dataschema.startswith(f"urn:koinonia:event:{wire.type}:"):
            raise Unreadable(f"not a valid event: type {wire.type[:100]!r}, schema {wire.dataschema[:200]!r}")
        if decoder is None:
            raise UnknownEvent(f"unknown event: type {wire.type[:100]!r}, schema {wire.dataschema[:200]!r}")
        data = decoder.decode(wire.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        # The decoder's message names the place and the expected type, never the value.
        raise Unreadable(f"not a valid event: {error}") from None
    return Envelope(
        id=wire.id,
        time=wire.time,
        data=data,
        church_id=wire.churchid,
        correlation_id=wire.correlationid,
        causation_id=wire.causationid,
        traceparent=wire.traceparent,
        service=wire.source.removeprefix(_SOURCE),
    )
