#!/usr/bin/env bash
# Run it from the folder above this one. It ends with an error until machine.yaml and machine2.yaml name your machines.
execute_batch examples/batch_script.sh --machines examples/machine.yaml examples/machine2.yaml "$@"
