"""From parents to children: the operator protocol and the offline operator, which needs no language model."""

from evo_aar.operators.base import Failure, Operator, OperatorContext, OperatorError, Parent, Proposal
from evo_aar.operators.offline import OfflineOperator

__all__ = ["Failure", "OfflineOperator", "Operator", "OperatorContext", "OperatorError", "Parent", "Proposal"]
