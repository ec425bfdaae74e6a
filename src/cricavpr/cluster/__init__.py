"""Description of photos on a Ray cluster, with the same bytes as on one machine. See docs/cluster.md."""

from cricavpr.cluster.flow import describe_on
from cricavpr.cluster.on_ray import Address
from cricavpr.cluster.tasks import MethodSpec

__all__ = ["Address", "MethodSpec", "describe_on"]
