"""Expressions of ClickHouse for ids of many types, and what they are read as."""

from __future__ import annotations

# Types that a client reads without a cast, or nearly.
USUAL = [
    ("toInt64(-7)", -7),
    ("toUInt8(7)", 7),
    ("toUInt64(9223372036854775807)", 9223372036854775807),
    ("toNullable(toInt32(7))", 7),
    ("toLowCardinality(toInt32(7))", 7),
    ("'seven'", "seven"),
    ("toNullable('seven')", "seven"),
    ("toLowCardinality('seven')", "seven"),
    ("toLowCardinality(toNullable('seven'))", "seven"),
    ("toUUID('0c1ff0b6-6b1c-4a5b-9d2f-3f6f1e6f0001')", "0c1ff0b6-6b1c-4a5b-9d2f-3f6f1e6f0001"),
    ("toNullable(toUUID('0c1ff0b6-6b1c-4a5b-9d2f-3f6f1e6f0001'))", "0c1ff0b6-6b1c-4a5b-9d2f-3f6f1e6f0001"),
    ("toFixedString('seven', 5)", "seven"),
    ("'7'", "7"),
    ("'ö–漢'", "ö–漢"),
]
EVERY = [
    *USUAL,
    ("toFixedString('seven', 20)", "seven"),
    ("toLowCardinality(toFixedString('seven', 20))", "seven"),
    ("CAST('seven', 'Enum8(\\'six (6)\\' = 6, \\'seven\\' = 7)')", "seven"),
    ("CAST('seven', 'Nullable(Enum16(\\'seven\\' = 700))')", "seven"),
    ("toIPv4('10.0.0.1')", "10.0.0.1"),
    ("toNullable(toIPv6('2001:db8::1'))", "2001:db8::1"),
    ("toUInt128(7)", "7"),
    ("toNullable(toInt128(-7))", "-7"),
    ("toUInt256('340282366920938463463374607431768211456')", "340282366920938463463374607431768211456"),
    ("toInt256(7)", "7"),
    ("toFloat64(7)", 7),
    ("toDecimal64(7, 2)", 7),
    ("CAST(7, 'SimpleAggregateFunction(max, Nullable(UInt32))')", 7),
]
