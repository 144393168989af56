# One job of the fault test: job.sh SECONDS LINES, where it sleeps twice for SECONDS and prints LINES lines.
# Its start and its end stand in the machine's ledger, a line and one write each: FAULT_LEDGER lies on a disk that is
# never full. A write that fails ends it, as a careful program would do.
now() { REPLY=${EPOCHREALTIME/[.,]/}; REPLY=${REPLY%???}; }
now
printf '%s %s %s %s\n' "$JOB_NAME" "$JOB_ATTEMPT" "$MACHINE_NAME" "$REPLY" >>"$FAULT_LEDGER" || exit 74
trap 'code=$?; now; printf "%s %s %s %s\n" "$JOB_NAME" "$JOB_ATTEMPT" "$code" "$REPLY" >>"$FAULT_LEDGER.ended"' EXIT
# Who is told to end says so in the ledger, too.
trap 'exit 143' TERM

say() { # from to
  lines=()
  for ((i = $1; i < $2; i++)); do lines+=("$JOB_NAME attempt $JOB_ATTEMPT line $i ........................................"); done
  if [ "${#lines[@]}" = 0 ]; then return; fi
  printf '%s\n' "${lines[@]}" || exit 75
}

say 0 $(($2 / 2))
printf 'halfway in attempt %s\n' "$JOB_ATTEMPT" >&2 || exit 75
sleep "$1"
say $(($2 / 2)) "$2"
sleep "$1"
mkdir made && printf '%s attempt %s\n' "$JOB_NAME" "$JOB_ATTEMPT" >made/result || exit 75
printf 'added by %s\n' "$JOB_NAME" >>input.txt || exit 75
printf 'the end\n' || exit 75
