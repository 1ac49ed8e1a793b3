"""The life of a training run from the command line to its first step.

    request ──> checks ──> create | claim ──> here | detached | queued
    what to     would it   a new run, or      train now, in the background,
    train       fail?      its lock           or when a daemon has room

`launch.launch` is the door. After training, `publish` uploads a completed run and `requeue` puts a
preempted Slurm job back into its queue.
"""
