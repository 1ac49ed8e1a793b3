"""Other trainers write our run directory and answer its requests: one module per trainer.

No module here loads the library it serves before it is used with it.
"""
