"""Files that were changed: hypothesis strategies that mutate what is valid, in its structure and in its bytes."""

import copy
import json
import struct

from hypothesis import strategies as st

ODD_NUMBERS = [0, 1, -1, 2, 7, 100, 255, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63, 2**64, 10**12, -(2**63)]
ODD_VALUES = [
    None,
    True,
    False,
    *ODD_NUMBERS,
    10**30,
    10**400,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "0",
    "../../x",
    "/etc/passwd",
    "a\0b",
    "\ud800",
    "x" * 5000,
    [],
    [[]],
    {},
    {"": {}},
    [0] * 1000,
]
PIECES = [
    b"\0",
    b"\xff",
    b"\n",
    b"\r",
    b"\t",
    b" ",
    b"{",
    b"[" * 2000,
    b"\xed\xa0\x80",
    b"9" * 5000,
    b"1e999",
    b"\x80\x04",
]


def _places(content, path=()):
    """Yield the path to every value in JSON."""
    yield path
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content[:20])
        for key, value in items:
            yield from _places(value, (*path, key))


def _changed(content, path, kind, value):
    """Return JSON with one change at a path."""
    if not path:
        return value if kind == "replace" else [content]
    content = copy.deepcopy(content)
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    key = path[-1]
    if kind == "replace":
        parent[key] = value
    elif kind == "wrap":
        parent[key] = [parent[key]]
    elif kind == "drop":
        del parent[key]
    elif isinstance(parent, dict):
        parent[str(value)[:100]] = parent[key] if kind == "double" else parent.pop(key)
    else:
        parent.append(parent[key])
    return content


@st.composite
def changed_json(draw, whole):
    """JSON in which a few values, keys or lists are others; or whose bytes are."""
    if draw(st.integers(0, 4)) == 0:
        return draw(changed_bytes(whole))
    content = json.loads(whole)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(_places(content))))
        kind = draw(st.sampled_from(["replace", "replace", "replace", "wrap", "drop", "rename", "double"]))
        value = draw(st.sampled_from(ODD_VALUES) | st.integers() | st.floats() | st.text(max_size=20))
        content = _changed(content, path, kind, value)
    return json.dumps(content).encode("utf-8", "surrogatepass")


@st.composite
def changed_bytes(draw, whole, head=4096):
    """Bytes that are flipped, cut, repeated, put in, or numbers that are others; mostly in the first ones."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        end = min(len(content), head) if draw(st.booleans()) else len(content)
        at = draw(st.integers(0, max(0, end - 1)))
        kind = draw(st.sampled_from(["flip", "flip", "number", "number", "cut", "take out", "repeat", "put in"]))
        if kind == "flip" and content:
            content[at] ^= draw(st.integers(1, 255))
        elif kind == "number":
            code = draw(st.sampled_from(["<Q", "<I", "<H", ">I"]))
            number = draw(st.sampled_from(ODD_NUMBERS)) % (1 << 8 * struct.calcsize(code))
            content[at : at + struct.calcsize(code)] = struct.pack(code, number)
        elif kind == "cut":
            del content[at:]
        elif kind == "take out":
            del content[at : at + draw(st.integers(1, 64))]
        elif kind == "repeat":
            content[at:at] = content[at : at + draw(st.integers(1, 256))]
        else:
            content[at:at] = draw(st.sampled_from(PIECES))
    return bytes(content)
