/** The help screen; it fits into 80 columns and 24 rows. */
export const HELP_LINES: readonly string[] = [
  'Keys',
  '  up, down, j, k      select a job       PgUp, PgDn, Home, End   by more',
  '  Tab, 1, 2, 3        the next list; running, waiting, ended',
  '  f, Enter            follow what the selected job prints; q comes back',
  '  h, r                hold a job that waits, release it',
  '  K, x                kill the selected job, after a question',
  '  /                   only jobs with this in their id, name, command, machine',
  '                      Enter keeps it, Esc clears it',
  '  m                   all machines, and back',
  '  Ctrl-L, Ctrl-Z      draw anew, stop the view for now',
  '  q, Ctrl-C           quit; what is watched goes on',
  '',
  'Bars: [####==----]  # is used, = is claimed by jobs beyond that, - is free.',
  'Figures are what is used of what there is: 3.1/8 cores, 12/62G memory.',
  '',
  'In the output of a job: ! begins a line from its standard error.',
];
