"""Everything that can only be measured on a CUDA machine, a module for each section."""
