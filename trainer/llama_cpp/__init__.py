"""llama.cpp as a child process: exports are verified with it, and GGUF files served by it."""
