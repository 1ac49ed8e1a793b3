"""The contract between `trainer` and `train-monitor`: the run directory and everything in it.

Nothing here imports torch or textual. Any Python program that trains something can use
`shared.run_writer.RunWriter` and be watched.
"""

__version__ = "0.1.0"
