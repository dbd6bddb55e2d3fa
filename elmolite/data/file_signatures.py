"""The first bytes of a file -> what it is, where that is not text in UTF-8."""

from __future__ import annotations

_CONVERT = "; convert it: iconv -f {0} -t UTF-8"

_SIGNATURES = [  # of two that fit, the first is meant; none goes beyond a line end
    (b"\xff\xfe\0\0", "UTF-32" + _CONVERT.format("UTF-32")),
    (b"\0\0\xfe\xff", "UTF-32" + _CONVERT.format("UTF-32")),
    (b"\xff\xfe", "UTF-16" + _CONVERT.format("UTF-16")),
    (b"\xfe\xff", "UTF-16" + _CONVERT.format("UTF-16")),
    (b"\x1f\x8b", "compressed with gzip, which its name does not say (.gz)"),
    (b"\xfd7zXZ\0", "compressed with xz; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; decompress it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"PK\x03\x04", "a zip archive, as office documents and .npz files are"),
    (b"%PDF-", "a PDF document; extract its text first"),
    (b"{\\rtf", "an RTF document; save it as plain text first"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document; save it as plain text first"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"PAR1\x15", "a parquet file; a folder of such is a --dataset"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x7fELF", "a program"),
]


def not_text(start: bytes) -> str | None:
    """Say what a file is that begins with these bytes, ``None`` where it may be text.

    :param start: 16 bytes, or all of a shorter first line with its end.
    """
    if start[4:10] == b"1AY&SY" and start.startswith(b"BZh"):
        return "compressed with bzip2; decompress it first"
    return next((kind for signature, kind in _SIGNATURES if start.startswith(signature)), None)
