"""The contracts of attacks and repairs, for other people's methods too; needs pytest.

from suture.testing import AttackContract, RepairContract

class TestMine(AttackContract):
    attacks = (MyAttack(eps=0.1),)
"""

from suture.errors import DependencyError

try:
    import pytest
except ImportError as error:
    raise DependencyError(
        expected="pytest, which runs the contracts",
        got="no such package",
        remedy="Install it: pip install pytest",
    ) from error

# Their asserts tell as much as those of test files.
pytest.register_assert_rewrite("suture.testing.attacks", "suture.testing.repairs")

from suture.testing.attacks import AttackContract  # noqa: E402
from suture.testing.repairs import RepairContract  # noqa: E402

__all__ = ["AttackContract", "RepairContract"]
