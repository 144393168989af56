#!/usr/bin/env bash
# Stands for an experiment: reads its settings from the folder it is given, and writes its result there.
. "$1/settings"
for round in $(seq "$rounds"); do echo "$1: round $round of $rounds"; done | tee "$1/rounds.log"
