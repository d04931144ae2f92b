"""The methods of ``Result`` that give programs."""

from __future__ import annotations

from typing import Any

from ._engine import Err, Ok, Result
from ._engine import ProgramBase as Program

__all__ = ["and_then_k", "or_program", "recover_k"]


def _as_result(value: Any) -> Result[Any]:
    return value if isinstance(value, Result) else Ok(value)


def _callable(kleisli: Any) -> Any:
    if not callable(kleisli):
        raise TypeError(f"kleisli must be callable, got {type(kleisli).__name__}")
    return kleisli


def and_then_k(result: Result[Any], kleisli: Any) -> Program[Result[Any]]:
    _callable(kleisli)
    if isinstance(result, Err):
        return Program.pure(result)
    return Program.pure(result.unwrap()).flat_map(kleisli).map(_as_result)


def recover_k(result: Result[Any], kleisli: Any) -> Program[Result[Any]]:
    _callable(kleisli)
    if isinstance(result, Ok):
        return Program.pure(result)
    return Program.pure(result.unwrap_err()).flat_map(kleisli).map(_as_result)


def or_program(result: Result[Any], program: Any) -> Program[Result[Any]]:
    if not isinstance(program, Program):
        raise TypeError(f"program must be Program, got {type(program).__name__}")
    return Program.pure(result) if isinstance(result, Ok) else program.map(_as_result)
