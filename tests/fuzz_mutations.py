"""Mutations of real files: bytes, JSON trees, and the JSON header of safetensors. All by a seeded generator."""

import json
import random
import struct
from typing import Any

ODD_NUMBERS = (0, 1, -1, 2, 127, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64, 10**40)
ODD_TEXTS = (
    "", "0", "-1", "nan", "../../x", "/etc/passwd", "\x00", "\ud800", "é" * 40, "a" * 5000, "chunk-000000.safetensors",
    "F32", "F64", "BOOL", "float32", "initial", "float64:0", "__metadata__", "1e999", "[" * 2000, "٣",
    "0/loss/generator",
)  # fmt: skip
ODD_TOKENS = (
    b"[" * 3000, b"{" * 3000, b"9" * 5000, b"1" + b"0" * 400, b"0x" + b"f" * 4000, b"1e400", b"-", b"nan", b"inf",
    b"null", b"true", b'"\\ud800"', b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"\r", b"'''", b'"""', b"\n[a]\n",
    b"=", b"\x1f\x8b",
    b"1979-05-27", b"[[a]]", b"IDAT", b"acTL\x00\x00\x00\x08", b"eXIf", b"Exif\x00\x00",
)  # fmt: skip


def mutated_bytes(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """``data`` with 1 to 6 changes: bits, numbers of both byte orders, tokens, cuts, repeats, parts of others."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = min(rng.randrange(len(content) + 1), rng.randrange(len(content) + 1))  # headers come first
        match rng.randrange(9):
            case 0 if content:
                at %= len(content)
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                content[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                number = rng.choice(ODD_NUMBERS) & 0xFFFFFFFFFFFFFFFF
                code = rng.choice((">I", "<I", ">H", "<H", "<Q", "B"))
                packed = struct.pack(code, number & ((1 << 8 * struct.calcsize(code)) - 1))
                content[at : at + len(packed)] = packed
            case 3:
                content[at:at] = rng.choice(ODD_TOKENS)
            case 4:
                token = rng.choice(ODD_TOKENS)
                content[at : at + len(token)] = token
            case 5:
                del content[at : at + rng.choice((1, 2, 4, 16, 100))]
            case 6:
                del content[at:]
            case 7:
                content[at:at] = content[at : at + rng.choice((1, 4, 64, 300))]
            case 8:
                other = rng.choice(others)
                start = rng.randrange(len(other) + 1)
                content[at : at + rng.randrange(64)] = other[start : start + rng.randrange(200)]
    return bytes(content)


def odd_value(rng: random.Random, depth: int = 0) -> Any:
    """A JSON value that a reader hardly expects."""
    match rng.randrange(9):
        case 0:
            return rng.choice(ODD_NUMBERS) * rng.choice((1, -1))
        case 1:
            return rng.choice(ODD_TEXTS)
        case 2:
            return rng.choice((None, True, False))
        case 3:
            return rng.choice((0.5, -0.0, 1e308, float("nan"), float("inf")))
        case 4 if depth < 2:
            return [odd_value(rng, depth + 1) for _ in range(rng.randrange(4))]
        case 5 if depth < 2:
            return {rng.choice(ODD_TEXTS): odd_value(rng, depth + 1) for _ in range(rng.randrange(3))}
        case 6:
            return [rng.choice(ODD_NUMBERS) for _ in range(rng.randrange(5))]
        case 7:
            return [[]] * 3
    return {}


def mutated_json(rng: random.Random, value: Any) -> Any:
    """A deep copy of ``value`` with 1 to 3 of its nodes replaced, renamed, removed or doubled."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.randint(1, 3)):
        places = list(_places(value))
        if not places:
            return odd_value(rng)
        parent, key = rng.choice(places)
        match rng.randrange(6):
            case 0 | 1 | 2:
                parent[key] = odd_value(rng)
            case 3:
                del parent[key]
            case 4 if isinstance(parent, dict):
                parent[rng.choice(ODD_TEXTS)] = parent.pop(key)
            case 4:
                parent.append(parent[key])
            case 5:
                other, place = rng.choice(places)
                try:
                    parent[key] = json.loads(json.dumps(other[place]))
                except (KeyError, IndexError):  # an earlier change has taken it away
                    parent[key] = odd_value(rng)
    return value


def _places(value: Any) -> Any:
    if isinstance(value, dict):
        for key, item in value.items():
            yield value, key
            yield from _places(item)
    elif isinstance(value, list):
        for key, item in enumerate(value[:50]):
            yield value, key
            yield from _places(item)


def mutated_json_bytes(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A JSON file with changes in its tree, or in its bytes."""
    if rng.random() < 0.3:
        return mutated_bytes(rng, data, others)
    return json.dumps(mutated_json(rng, json.loads(data))).encode()


def mutated_safetensors(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A safetensors file with changes in the tree of its header, in the JSON inside its metadata, or in its bytes."""
    chance = rng.random()
    if chance < 0.3:
        return mutated_bytes(rng, data, others)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    inner = [key for key in header.get("__metadata__", {}) if header["__metadata__"][key][:1] == "{"]
    if chance < 0.7 and inner:
        key = rng.choice(inner)
        tree = mutated_json(rng, json.loads(header["__metadata__"][key]))
        header["__metadata__"][key] = json.dumps(tree)
    else:
        header = mutated_json(rng, header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]
