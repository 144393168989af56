# The forced command of a loopback host: sshd starts every session in the account's real home folder, this goes to the
# host's own (HOME is set by the server's configuration) and runs what was asked for with the host's shell.
cd "$HOME" || exit 1
command=${SSH_ORIGINAL_COMMAND-}
unset SSH_ORIGINAL_COMMAND
if [ -n "$command" ]; then exec "$SHELL" -c "$command"; fi
exec "$SHELL" -l
