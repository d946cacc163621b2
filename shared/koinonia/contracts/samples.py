"""A believable, always equal example of any struct of a contract, made from its types and field names."""

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import inspect

from koinonia.ids import id_floor

_AT = datetime(2026, 11, 22, 15, 30, tzinfo=UTC)

_TEXTS = {
    "timezone": "America/Chicago",
    "region": "US",
    "name": "Grace Chapel",
    "firstName": "Anna",
    "lastName": "Berg",
    "phone": "+12055550100",
    "content": "Hi {{firstName}}, the service is moved indoors.",
    "text": "I can bring soup.",
    "plan": "trial",
    "action": "message.accepted",
    "targetKind": "message",
    "address": "203.0.113.7",
    "template": "password-reset",
    "requestId": "req-7f3a",
    "status": "delivered",
    "carrierId": "40385f64-5717-4562-b3fc-2c963f66afa6",
    "fileKey": "exports/part.json.enc",
    "stripeEventId": "evt_1SVbXq2eZvKYlo2C7fYd3aBc",
    "stripeType": "invoice.paid",
    "objectId": "in_1SVbXp2eZvKYlo2CqMvT9xYz",
    "customerId": "cus_TSXw1n8bR4kLmP",
}
_FIELDS = {"firstName": "Anna", "lastName": "Berg"}


def sample(shape: type[Any]) -> Any:
    """An instance of a struct type."""
    return msgspec.convert(_struct(inspect.type_info(shape)), shape)


def _struct(info: inspect.Type) -> dict[str, Any]:
    if not isinstance(info, inspect.StructType):
        raise TypeError("only structs have examples")
    return {field.encode_name: _value(field.type, field.encode_name) for field in info.fields}


def _value(info: inspect.Type, name: str) -> Any:  # noqa: C901, PLR0911, PLR0912 - one line per kind of type
    match info:
        case inspect.Metadata(type=inner):
            return _value(inner, name)
        case inspect.UnionType(types=types):
            return _value(next(each for each in types if not isinstance(each, inspect.NoneType)), name)
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.StructType():
            return _struct(info)
        case inspect.UUIDType():
            return _uuid(name)
        case inspect.DateTimeType():
            return _AT
        case inspect.BoolType():
            return False
        case inspect.IntType():
            return 1 if name == "version" else 160
        case inspect.BytesType():
            return hashlib.sha256(name.encode()).digest()[:16]
        case inspect.DictType(key_type=key, value_type=value):
            if isinstance(key, inspect.LiteralType):
                return {"queued": -2, "sent": 2}
            if isinstance(value, inspect.IntType):
                return {"40008": 1}
            return _FIELDS
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return [_value(item, name.removesuffix("s"))]
        case inspect.StrType():
            return "https://media.example/flyer.jpg" if name.startswith("mediaUrl") else _TEXTS.get(name, "text")
        case _:
            raise TypeError(f"no example for {info}")


def _uuid(name: str) -> UUID:
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
    return UUID(int=id_floor(_AT).int | digest)
