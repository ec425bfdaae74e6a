"""Describing on the machines of a Ray cluster: the bytes of one machine, from many."""

from cricavpr.cluster.address import Address
from cricavpr.cluster.flow import describe_on
from cricavpr.cluster.tasks import MethodSpec

__all__ = ["Address", "MethodSpec", "describe_on"]
