"""One module for each stage of a pipeline, behind `interface.Stage`; `registry` lists them."""
