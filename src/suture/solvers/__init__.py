"""Solvers: a linear or mixed-integer program in, a solution or a status with a sentence out.

The only package that knows a solver. HiGHS is always there; Gurobi and SCIP where installed.
"""

from suture.solvers.choosing import SOLVERS, Solver, solve
from suture.solvers.growing import Growing
from suture.solvers.priced import PricedProgram, cheapest_cover
from suture.solvers.problem import Problem, rows
from suture.solvers.solution import Solution, SolverStatus

__all__ = [
    "SOLVERS",
    "Growing",
    "PricedProgram",
    "Problem",
    "Solution",
    "Solver",
    "SolverStatus",
    "cheapest_cover",
    "rows",
    "solve",
]
