#!/usr/bin/env bash
# Stands for your program: says where it runs and writes a result.
echo "running on $MACHINE_NAME as $JOB_NAME"
date > "result-of-$JOB_NAME.txt"
