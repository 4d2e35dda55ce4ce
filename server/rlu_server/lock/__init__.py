"""The lock: what each process of RLU may do, enforced by the kernel and measured inside the process (`rlu_lock.probe`)."""
