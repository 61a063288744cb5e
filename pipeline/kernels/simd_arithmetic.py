"""SIMD vectors in registers, for compiled kernels: multiply-add, comparisons lane by lane, sums over the lanes.

Importing this module imports numba.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from pipeline.kernels import simd
from pipeline.kernels.simd import cgutils, intrinsic, ir

__all__ = [
    "above",
    "across",
    "chosen",
    "filled",
    "higher",
    "inverse",
    "lowest",
    "madd",
    "reaches",
    "relu",
    "total",
    "violation",
]


@intrinsic()
def reaches(typingctx: Any, a: Any, least: Any) -> Any:
    """A word whose bit i says whether lane i is at least the scalar `least`; for at most 64 lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.fcmp_ordered(
            ">=", args[0], simd.spread_lanes(builder, args[1], simd.llvm_type(a.dtype, a.lanes))
        )
        word = builder.bitcast(bits, ir.IntType(a.lanes))
        return word if a.lanes == 64 else builder.zext(word, ir.IntType(64))

    return types.uint64(a, a.dtype), codegen


@intrinsic()
def filled(typingctx: Any, a: Any) -> Any:
    """A word whose bit i says whether lane i is not 0; for at most 64 lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.fcmp_unordered("!=", args[0], ir.Constant(simd.llvm_type(a.dtype, a.lanes), None))
        word = builder.bitcast(bits, ir.IntType(a.lanes))
        return word if a.lanes == 64 else builder.zext(word, ir.IntType(64))

    return types.uint64(a), codegen


@intrinsic()
def lowest(typingctx: Any, word: Any) -> Any:
    """The number of the lowest set bit of a uint64 that is not 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), codegen


@intrinsic()
def madd(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a·b + c, fused where the machine can; `a` is a vector or a scalar."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = simd.llvm_type(c.dtype, c.lanes)
        left = args[0] if isinstance(a, simd.Vector) else simd.spread_lanes(builder, args[0], vector)
        name = f"llvm.fmuladd.v{c.lanes}f{c.dtype.bitwidth}"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector, vector, vector]), name
        )
        return builder.call(function, [left, args[1], args[2]])

    return c(a if isinstance(a, simd.Vector) else c.dtype, b, c), codegen


@intrinsic()
def relu(typingctx: Any, a: Any) -> Any:
    """max(a, 0) lane by lane; a NaN stays."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = ir.Constant(simd.llvm_type(a.dtype, a.lanes), None)
        return builder.select(builder.fcmp_ordered("<=", args[0], zero), zero, args[0])

    return a(a), codegen


@intrinsic()
def higher(typingctx: Any, a: Any, b: Any) -> Any:
    """max(a, b) lane by lane; a NaN of `a` stays."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<=", args[0], args[1]), args[1], args[0])

    return a(a, b), codegen


@intrinsic()
def chosen(typingctx: Any, x: Any, a: Any, b: Any) -> Any:
    """`a` where x is not 0, else the scalar b, lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = simd.llvm_type(x.dtype, x.lanes)
        nonzero = builder.fcmp_unordered("!=", args[0], ir.Constant(vector, None))
        return builder.select(nonzero, args[1], simd.spread_lanes(builder, args[2], vector))

    return x(x, x, x.dtype), codegen


@intrinsic()
def inverse(typingctx: Any, a: Any, least: Any) -> Any:
    """1 / a where a is above the scalar `least`, else 0, lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = simd.llvm_type(a.dtype, a.lanes)
        zero, one = ir.Constant(vector, None), ir.Constant(vector, [1.0] * a.lanes)
        bits = builder.fcmp_ordered(">", args[0], simd.spread_lanes(builder, args[1], vector))
        return builder.select(bits, builder.fdiv(one, args[0]), zero)

    return a(a, a.dtype), codegen


@intrinsic()
def above(typingctx: Any, a: Any, b: Any) -> Any:
    """1 where a > b, else 0, lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = simd.llvm_type(a.dtype, a.lanes)
        ones, zero = ir.Constant(vector, [1.0] * a.lanes), ir.Constant(vector, None)
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), ones, zero)

    return a(a, b), codegen


@intrinsic()
def violation(typingctx: Any, step: Any, w: Any) -> Any:
    """The absolute projected gradient at w ≥ 0 for the gradient −step: at w = 0 only an upward step counts."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = ir.Constant(simd.llvm_type(w.dtype, w.lanes), None)
        up = builder.select(builder.fcmp_ordered(">", args[0], zero), args[0], zero)
        size = builder.select(builder.fcmp_ordered("<", args[0], zero), builder.fsub(zero, args[0]), up)
        return builder.select(builder.fcmp_ordered("==", args[1], zero), up, size)

    return w(step, w), codegen


def _sum_of_lanes(builder: Any, value: Any, n: int) -> Any:
    """The halves of a vector of n lanes added, until one lane is left."""
    while n > 1:
        n //= 2
        word = ir.VectorType(ir.IntType(32), n)
        low = builder.shuffle_vector(value, value, ir.Constant(word, list(range(n))))
        high = builder.shuffle_vector(value, value, ir.Constant(word, list(range(n, 2 * n))))
        value = builder.fadd(low, high)
    return builder.extract_element(value, ir.IntType(32)(0))


@intrinsic()
def total(typingctx: Any, a: Any) -> Any:
    """The sum of the lanes, in float64, always in the same order."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide = ir.VectorType(ir.DoubleType(), a.lanes)
        value = args[0] if a.dtype == types.float64 else builder.fpext(args[0], wide)
        return _sum_of_lanes(builder, value, a.lanes)

    return types.float64(a), codegen


@intrinsic()
def across(typingctx: Any, a: Any) -> Any:
    """The sum of the lanes in their type, always in the same order."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _sum_of_lanes(builder, args[0], a.lanes)

    return a.dtype(a), codegen
