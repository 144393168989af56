# Each line says itself what goes to the machine, what comes back, and what its results are called.
execute_remote --copy-forwards examples/example1 examples/experiment.sh --copy-backwards examples/example1 --job-name example1 'bash examples/experiment.sh examples/example1'
execute_remote --copy-forwards examples/example2 examples/experiment.sh --copy-backwards examples/example2 --job-name example2 'bash examples/experiment.sh examples/example2'
