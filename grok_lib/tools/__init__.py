"""Around the library: the command line, the benchmark, and what `run_all.sh` does."""
