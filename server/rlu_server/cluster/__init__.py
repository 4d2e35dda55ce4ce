"""What runs beside the instances in a Kubernetes cluster: the node labeller, its sweep, and what publishes collateral.

- `rights`: which calls each role makes, named here only. The client makes no other; the chart's RBAC is compared with it.
- `record`: what of a node is certified, and its digest; `certify`: whether a node keeps the label. Both pure.
- `api`: the one client of the API server. `labeller`, `sweep`, `publish`: what the roles do with it.

The label is where the scheduler looks, not evidence: a program found the node in order. Clients verify the hardware's own evidence.
"""
