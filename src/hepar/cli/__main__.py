"""`python -m hepar.cli`, as `torchrun -m hepar.cli` starts it."""

from hepar.cli import main

main()
