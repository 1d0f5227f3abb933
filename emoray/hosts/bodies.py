"""The bytes of a response as UTF-8: pure. What cannot be read without guessing is `Garbled`, and no answer."""

from __future__ import annotations

import codecs
import json
import re
import zlib
from contextlib import suppress

LONGEST = 64 << 20  # bytes of a body: no answer is as long
_CHARSET = re.compile(r"""charset\s*=\s*["']?([^"';,\s]+)""", re.IGNORECASE)
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # UTF-32's other one begins like UTF-16's
_MEANT = {  # by a name that is often given to what has a few more letters
    "iso8859-1": ("cp1252", "iso8859-1"),
    "gb2312": ("gb2312", "gb18030"),
    "gbk": ("gbk", "gb18030"),
    "shift_jis": ("shift_jis", "cp932"),
    "euc_kr": ("euc_kr", "cp949"),
    "big5": ("big5", "big5hkscs"),
}


class Garbled(ValueError):
    """A response that HTTP, or its own headers, do not allow to read. Its text is a sentence's end."""


def unpacked(body: bytes, encodings: str) -> bytes:
    """A body without the Content-Encoding that its header names; an unknown name is none. Raises Garbled."""
    for encoding in reversed(encodings.lower().split(",")):
        match encoding.strip():
            case "gzip" | "x-gzip":
                body = _inflated(body, 16 + zlib.MAX_WBITS, encoding)
            case "deflate":  # some leave out its frame, which begins with an 8
                framed = body[:1] and body[0] & 0xF == 8
                body = _inflated(body, zlib.MAX_WBITS if framed else -zlib.MAX_WBITS, encoding)
            case "br" | "zstd" | "compress" | "x-compress" as unasked:
                raise Garbled(f"its Content-Encoding {unasked} was not asked for and cannot be read")
    return body


def _inflated(body: bytes, window: int, encoding: str) -> bytes:
    said, whole = f"its Content-Encoding is {encoding.strip()}", b""
    if not body:
        return body
    try:
        while body:  # gzip may have several members
            stream = zlib.decompressobj(window)
            whole += stream.decompress(body, LONGEST - len(whole))
            if stream.unconsumed_tail or len(whole) >= LONGEST:
                raise Garbled(f"{said}, and unpacked it is longer than {LONGEST >> 20} MiB")
            if not stream.eof:
                raise Garbled(f"{said}, and it is cut")
            body = stream.unused_data.lstrip(b"\0")
    except zlib.error:
        if not whole:
            raise Garbled(f"{said}, which it is not") from None
    return whole


def in_utf8(body: bytes, content_type: str = "") -> bytes:
    """A text in UTF-8: what is valid as it is; else by its byte order mark, or in the charset that its header declares.

    Raises Garbled for a text that none of these can be.
    """
    try:
        body.decode()
    except UnicodeDecodeError:
        pass
    else:
        return body
    declared = _CHARSET.search(content_type)
    for charset in _charsets(body, declared[1] if declared else ""):
        with suppress(LookupError, ValueError):
            return body.decode(charset).encode()
    with suppress(UnicodeError):  # halves of characters, each written as a letter
        return body.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16").encode()
    what = f"neither UTF-8 nor the {declared[1][:40]} that it declares" if declared else "no UTF-8"
    raise Garbled(f"its bytes are {what}")


def _charsets(body: bytes, declared: str) -> list[str]:
    marked: list[str] = [json.detect_encoding(body)] if body.startswith(_MARKS) else []
    with suppress(LookupError, ValueError):
        name = codecs.lookup(declared).name
        return [*marked, *_MEANT.get(name, (name,))]
    return marked
