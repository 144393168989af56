/** `job_queue help`: the commands at a glance. */

export const HELP = `job_queue [--host user@server] [--data-dir DIR] COMMAND ...

A service that remembers jobs and runs each on the machine and GPU where it fits.

  start                  starts the service [--daemon]         stop                  ends it, jobs run on
  service-file           prints a systemd user unit

  machines               lists machines                        add-machine NAME...   adds some
  remove-machine NAME    removes one                           configure NAME        limits its jobs at a time

  submit SCRIPT ARGS...  gives it jobs (--command, --command-file, --run-here)
  status [ID|NAME|all]   what runs where                       list                  a line per job
  log ID                 what a job printed                    follow ID             ... until it has ended
  wait ID...             until jobs have ended                 explain ID            why a job does not run
  hold, release ID...    has jobs wait, ends that              kill ID...|all        ends jobs
  rerun ID...|--failed   runs jobs again                       priority ID N         gives another priority
  remove-job SCRIPT ...  removes waiting jobs of a script      clean                 forgets ended jobs
  watch                  a live view of all that               events                what happens, as it happens
  export, import FILE    the whole state as JSON

job_queue COMMAND --help tells more about each.

  --data-dir DIR         which service [~/.local/share/ssh-scheduler/queue; with --host a path there]
  --host DEST            the service of another host, reached over ssh: whoever may log in as its owner may use it
  --ssh-config FILE      another ssh configuration file, as ssh -F

Example: job_queue start --daemon && job_queue submit --no-gpu-required --command 'echo hello' && job_queue status

Exit code: 0; 255 when the call is wrong or the service cannot do it; wait: how many jobs have no good end.
`;
