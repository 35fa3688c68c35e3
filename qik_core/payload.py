"""The job as it travels: Sidekiq's flat JSON object behind a header that Lua can match.

    {"qik":"<unique>","jid":"<jid>","queue":"<queue>","class":"Charge","args":[7],"retry":25,"created_at":…,"enqueued_at":…}

Lua never re-encodes a payload: cjson rounds big integers and turns `[]` into `{}`. It matches the header, which
is always written here, and nothing behind it. What has no such header is *foreign*: pushed or re-serialised by Ruby.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import msgspec

from qik_core.errors import MalformedPayload

Until: TypeAlias = Literal["success", "start"]

DIGEST: Final = 22
"""Characters of a digest: 16 bytes as base64url without padding."""
MALFORMED: Final = "qik:malformed"
"""The class of an envelope around bytes that are no job."""

_HEADER = re.compile(
    rb'\{"qik":"([\w-]+)","jid":"([\w-]{1,64})","queue":"([\w.:-]{1,128})",', re.ASCII
)
_UNIQUE = re.compile(r"[\w-]{22}[ST]\d{1,10}", re.ASCII)
_UNTIL: Final[Mapping[str, Until]] = {"S": "success", "T": "start"}
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def new_jids(count: int) -> list[bytes]:
    """Return fresh job ids: 24 hexadecimal characters each, all from the system's randomness."""
    text = os.urandom(12 * count).hex().encode()
    return [text[start : start + 24] for start in range(0, 24 * count, 24)]


def new_jid() -> str:
    """Return a fresh job id: 24 hexadecimal characters, as Sidekiq's."""
    return os.urandom(12).hex()


@dataclass(frozen=True, slots=True)
class Unique:
    """The lock that a job holds."""

    digest: str
    """22 base64url characters."""
    seconds: int
    """`unique_for`, in whole seconds."""
    until: Until = "success"

    def __str__(self) -> str:
        """Return the header's form."""
        return f"{self.digest}{'S' if self.until == 'success' else 'T'}{self.seconds}"

    @classmethod
    def parse(cls, text: str) -> Unique | None:
        """Return the lock named in a header, None for a job without one."""
        if _UNIQUE.fullmatch(text) is None:
            return None
        return cls(text[:DIGEST], int(text[DIGEST + 1 :]), _UNTIL[text[DIGEST]])


class Payload:
    """One job: its fields as in JSON, never changed in place.

    `fields` holds every field, also those this version does not know; treat it as read-only.
    """

    __slots__ = ("fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields

    @classmethod
    def decode(cls, raw: bytes) -> Payload:
        """Return the job in these bytes, checked for the shape that the engine relies on.

        Raises:
            MalformedPayload: not JSON, not an object, or a field of the wrong type.
        """
        try:
            fields = _decoder.decode(raw)
        except (ValueError, RecursionError) as error:
            raise MalformedPayload(f"not JSON: {error}") from None
        if type(fields) is not dict:
            raise MalformedPayload(f"a job is a JSON object, this is {type(fields).__name__}")
        if type(fields.get("class")) is not str:
            raise MalformedPayload("`class` must be a string")
        if type(fields.get("args", [])) is not list:
            raise MalformedPayload("`args` must be an array")
        return cls(fields)

    def replace(self, **changes: Any) -> Payload:
        """Return a copy with these fields changed. `jid`, `queue` and `qik` may be among them."""
        return Payload({**self.fields, **changes})

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, or the default."""
        return self.fields.get(name, default)

    @property
    def class_name(self) -> str:
        """The registered name of the job class."""
        return str(self.fields["class"])

    @property
    def args(self) -> list[Any]:
        """The arguments, as they are in JSON."""
        args: list[Any] = self.fields.get("args", [])
        return args

    @property
    def jid(self) -> str:
        """The job's id; empty for a foreign payload without one."""
        jid = self.fields.get("jid")
        return jid if type(jid) is str else ""

    @property
    def queue(self) -> str:
        """The queue that the job was pushed to."""
        queue = self.fields.get("queue")
        return queue if type(queue) is str else "default"

    @property
    def unique(self) -> Unique | None:
        """The lock of the job, None without one."""
        text = self.fields.get("qik")
        return Unique.parse(text) if type(text) is str else None

    def encode(self) -> bytes:
        """Return the bytes, with our header in front."""
        return encode_fields(self.fields)


_IN_FRONT = ("qik", "jid", "queue")


def encode_fields(fields: Mapping[str, Any]) -> bytes:
    """Return the JSON of these fields with our header in front and `enqueued_at` last."""
    ordered: dict[str, Any] = {"qik": "-", "jid": "", "queue": "default"}
    ordered.update((name, fields[name]) for name in _IN_FRONT if name in fields)
    ordered.update(fields)
    if "enqueued_at" in ordered:
        ordered["enqueued_at"] = ordered.pop("enqueued_at")
    return _encoder.encode(ordered)


def header(raw: bytes) -> tuple[str, str, str] | None:
    """Return (unique, jid, queue) of our own payload, None for a foreign one."""
    found = _HEADER.match(raw)
    if found is None:
        return None
    unique, jid, queue = found.groups()
    return unique.decode(), jid.decode(), queue.decode()


class Template:
    """Builds the payloads of one job class with one set of options: bytes between bytes.

    `fields` are all fields but `qik`, `jid`, `queue`, `args`, `created_at` and `enqueued_at`. About 1 µs a job, a
    quarter of what an encoder takes for the same object.
    """

    __slots__ = ("_middle", "_tail", "queue")

    def __init__(self, queue: str, fields: Mapping[str, Any]) -> None:
        self.queue = queue
        rest = {name: value for name, value in fields.items() if name != "class"}
        self._middle = b'","queue":"%s","class":%s,"args":' % (
            queue.encode(),
            _encoder.encode(fields["class"]),
        )
        self._tail = b"," + _encoder.encode(rest)[1:-1] if rest else b""

    def build_many(
        self,
        marks: Sequence[bytes],
        jids: Sequence[bytes],
        args: Sequence[bytes],
        stamps: Sequence[bytes] | bytes,
    ) -> list[bytes]:
        """Return many payloads: `marks` are header forms or `-`; one `stamps` may do for all."""
        middle, tail = self._middle, self._tail
        if isinstance(stamps, bytes):
            end = tail + stamps
            return [
                b"".join((b'{"qik":"', mark, b'","jid":"', jid, middle, arg, end))
                for mark, jid, arg in zip(marks, jids, args, strict=True)
            ]
        return [
            b"".join((b'{"qik":"', mark, b'","jid":"', jid, middle, arg, tail, stamp))
            for mark, jid, arg, stamp in zip(marks, jids, args, stamps, strict=True)
        ]

    def build(self, unique: bytes, jid: bytes, args: bytes, stamps: bytes) -> bytes:
        """Return one payload. `unique` is the header's form or `-`; `stamps` comes from `stamps()`."""
        return b"".join(
            (b'{"qik":"', unique, b'","jid":"', jid, self._middle, args, self._tail, stamps)
        )


def stamps(
    created: float, *, queued: bool, milliseconds: bool = False, expiry: float | None = None
) -> bytes:
    """Return the time fields and the closing brace: `created_at`, and `enqueued_at` for a job that goes on a queue.

    Float seconds are read rightly by every Sidekiq; whole milliseconds only by 8 and later (`wire="sidekiq8"`).
    `expiry`, always in epoch seconds, is when a job that has not started is dropped.
    """
    time = b"%d" % int(created * 1000) if milliseconds else b"%.6f" % created
    until = b"" if expiry is None else b',"expiry":%.3f' % expiry
    if queued:
        return b'%s,"created_at":%s,"enqueued_at":%s}' % (until, time, time)
    return b'%s,"created_at":%s}' % (until, time)
