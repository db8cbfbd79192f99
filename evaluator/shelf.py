"""The students of one trial, by the number of the request that made each.

There is no name for another trial's.
"""

from __future__ import annotations

from evaluator.requests import ProtocolBreach, Refused
from evaluator.trainer.students import Ensemble, Shifted, Student, Trained

MAX_STUDENTS = 1024
MAX_PARAMETER_BYTES = 8 << 30


class Shelf:
    """Keeps students, within a number and a size."""

    def __init__(self) -> None:
        self._students: dict[int, Student] = {}
        self._bytes = 0

    def keep(self, number: int, student: Student) -> None:
        """Raises `ProtocolBreach` where there are too many, or their parameters are too large together."""
        if len(self._students) >= MAX_STUDENTS:
            raise ProtocolBreach(f"more than {MAX_STUDENTS} students in one trial")
        if isinstance(student, Trained):
            self._bytes += sum(value.numel() * value.element_size() for value in student.parameters.values())
            if self._bytes > MAX_PARAMETER_BYTES:
                raise ProtocolBreach(f"students of more than {MAX_PARAMETER_BYTES >> 30} GiB in one trial")
        self._students[number] = student

    def find(self, number: object) -> Student | None:
        """The student of that number, None for whatever names no student of this trial."""
        return self._students.get(number) if type(number) is int else None

    def optional(self, number: object) -> Student | None:
        """The student of that number, None for None. Raises `Refused`."""
        return None if number is None else self.get(number)

    def get(self, number: object) -> Student:
        """The student of that number. Raises `Refused`."""
        student = self.find(number)
        if student is None:
            raise Refused("that is not a student of this trial")
        return student


def members(student: Student) -> int:
    """How many students answer as one."""
    while isinstance(student, Shifted):
        student = student.base
    return len(student.members) if isinstance(student, Ensemble) else 1
